"""For the same signs, every autodiff mode of every backend gives the same gradient.

``python tests/test_same_signs.py`` prints the gaps as a table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from uoro_torch import Online

from uoro import (
    RTRL,
    UORO,
    JointUORO,
    KroneckerSum,
    RollingTruncated,
    SnAp,
    Streams,
    load_backend,
)

UNITS, STEPS, COUNT = 3, 3, 2

ESTIMATORS: dict[str, Callable[[], Any]] = {
    "UORO": UORO,
    "rank 2": lambda: UORO(rank=2),
    "rank 9": lambda: UORO(rank=9),
    "joint": lambda: JointUORO(2),
    "RTRL": RTRL,
    "Kronecker": lambda: KroneckerSum(2),
    "SnAp": lambda: SnAp(1),
    "rolling": lambda: RollingTruncated(2),
    "streams": lambda: Streams(UORO(), COUNT),
    "streams, rank 2": lambda: Streams(UORO(rank=2), COUNT),
    "streams, joint": lambda: Streams(JointUORO(2), COUNT),
}
"""Ranks, RTRL and streams map the model; PyTorch goes through up to 8 pairs one by one."""

MAPPED = frozenset(ESTIMATORS) - {"UORO", "rolling"}
"""Estimators that map the model, over pairs, unit vectors or streams."""

KINDS = ("autograd", "jax", "torch", "module", "module, checkpoint", "module, hooks")

_random = np.random.RandomState(0)
PARAMS = {"w": _random.randn(UNITS, UNITS) / 2, "u": _random.randn(UNITS)}
INPUTS, TARGETS = _random.randn(STEPS, COUNT), _random.randn(STEPS, COUNT)


def _transition(xp: Any) -> Callable[[Any, Any, Any], Any]:
    def transition(params: Any, state: Any, item: Any) -> Any:
        x, y = item[0], item[1]
        state = xp.tanh(params["w"] @ state + params["u"] * x)
        return state, ((state - y) ** 2).mean()

    return transition


class Module(nn.Module):
    """The same in PyTorch's layout, for one row or several."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.w, self.u = (nn.Parameter(torch.tensor(PARAMS[name])) for name in ("w", "u"))
        self.checkpointed = kind.endswith("checkpoint")
        if kind.endswith("hooks"):
            for param in self.parameters():
                param.register_hook(torch.sign)  # type: ignore[no-untyped-call]  # PyTorch's own has no types

    def forward(self, input: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        run: Any = partial(checkpoint, self.advance, use_reentrant=False)
        state = run(input, state) if self.checkpointed else self.advance(input, state)
        return state, state

    def advance(self, input: Tensor, state: Tensor) -> Tensor:
        return torch.tanh(state @ self.w.T + self.u * input[..., None])


def _squared(output: Tensor, target: Tensor) -> Tensor:
    return ((output - target[..., None]) ** 2).mean()


@contextmanager
def _routes(kind: str, streams: int | None) -> Iterator[list[tuple[str, Any, Any]]]:
    """Enter a context with the modes, by name, and the params of the model of a kind."""
    backend: Any = load_backend(kind if kind in ("autograd", "jax") else "torch")
    with backend.precision("float64"):
        params: Any = backend.from_host(PARAMS)
        if kind.startswith("module"):
            lead = () if streams is None else (streams,)
            online = Online.for_module(
                Module(kind),
                _squared,
                torch.zeros(*lead, UNITS).double(),
                streams=streams,
                estimator=UORO(),
            )
            dynamics: Any = online.dynamics
            params = online.params
        else:
            dynamics = backend.dynamics(_transition(backend.xp))
        yield [
            (route.name, route.dynamics, params)
            for route in dynamics._routes
            if route.name != "central differences"
            # PyTorch does not differentiate a checkpoint twice.
            and ("forward" in route.name or not kind.endswith("checkpoint"))
        ]


def _gradient(estimator: Any, dynamics: Any, params: Any) -> np.ndarray[Any, Any]:
    """Return the gradients of all steps, with signs that NumPy draws."""
    backend, drawn = dynamics.backend, load_backend("autograd")
    several = isinstance(estimator, Streams)
    state: Any = backend.from_host(np.zeros((COUNT, UNITS) if several else UNITS))
    here: Any = np.zeros((COUNT, UNITS) if several else UNITS)
    carry, found = None, list[Any]()
    for step in range(STEPS):
        item: Any = INPUTS[step], TARGETS[step]
        item = backend.from_host(item if several else tuple(each[0] for each in item))
        carry = estimator.init(dynamics, params, state, inputs=item) if step == 0 else carry
        sampler = partial(drawn.random, drawn.fold(drawn.key(0), step))
        signs = estimator.draw(sampler, here)
        signs = None if signs is None else backend.from_host(signs)
        carry, state, estimate = estimator.step(dynamics, params, carry, state, item, signs)
        gradient = backend.to_host(estimate.gradient)
        found += [np.ravel(gradient[name]) for name in sorted(PARAMS)]
    return np.concatenate(found)


def gaps(kind: str, name: str) -> dict[str, float]:
    """Return the relative gap of each mode to NumPy's plain model, by the name of the mode."""
    estimator = ESTIMATORS[name]()
    streams = COUNT if isinstance(estimator, Streams) else None
    with _routes("autograd", streams) as routes:
        wanted = _gradient(estimator, *routes[0][1:])
    with _routes(kind, streams) as routes:
        return {
            route: float(np.linalg.norm(_gradient(estimator, dynamics, params) - wanted))
            / float(np.linalg.norm(wanted))
            for route, dynamics, params in routes
        }


@pytest.mark.parametrize("name", ESTIMATORS)
@pytest.mark.parametrize("kind", KINDS)
def test_all_modes_of_all_backends_agree_up_to_rounding(kind: str, name: str) -> None:
    found = gaps(kind, name)
    assert found
    assert max(found.values()) < 1e-13, found


def table() -> str:
    """Return the gaps as a table: a row for each estimator and backend, a column for each mode."""
    modes = list[str]()
    rows = dict[tuple[str, str], dict[str, float]]()
    for name in ESTIMATORS:
        for kind in KINDS:
            rows[name, kind] = gaps(kind, name)
            modes += [mode for mode in rows[name, kind] if mode not in modes]
    lines = [
        f"| estimator | mapped | model | {' | '.join(modes)} |",
        "|---" * (3 + len(modes)) + "|",
    ]
    for (name, kind), found in rows.items():
        mapped = "yes" if name in MAPPED else "no"
        cells = [f"{found[mode]:.0e}" if mode in found else "" for mode in modes]
        lines.append(f"| {name} | {mapped} | {kind} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
