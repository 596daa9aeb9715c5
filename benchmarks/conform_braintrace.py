"""braintrace's online algorithms on its own cells; for ``peers_conform.py``."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from importlib import import_module
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from carried import judge, quoted, report

braintrace: Any = import_module("braintrace")
brainstate: Any = import_module("brainstate")

UNITS, ALPHABET, STEPS, RUNS = 4, 3, 8, 10_000

CELLS: dict[str, Callable[[], list[Any]]] = {
    "tanh": lambda: [braintrace.nn.ValinaRNNCell(ALPHABET, UNITS, activation="tanh")],
    "GRU": lambda: [braintrace.nn.GRUCell(ALPHABET, UNITS)],
    "GRU × 2": lambda: [
        braintrace.nn.GRUCell(ALPHABET, UNITS),
        braintrace.nn.GRUCell(UNITS, UNITS),
    ],
    "LSTM": lambda: [braintrace.nn.LSTMCell(ALPHABET, UNITS)],
}

ALGORITHMS: dict[str, tuple[Any, dict[str, Any], int]] = {
    "UORO": ("uoro", {}, RUNS),
    "SnAp, saturated": (braintrace.SnAp, {"n": UNITS, "vjp_method": "multi-step"}, 1),
    "D_RTRL": ("d_rtrl", {"vjp_method": "multi-step"}, 1),
}

SAYS = {
    "UORO": quoted(
        "On a single hidden group with a position-preserving elementwise tail, that recursion is "
        "itself exact, so there UORO is unbiased for BPTT; elsewhere it is unbiased for the "
        "block-local recursion.",
        braintrace.UORO,
    ),
    "SnAp, saturated": quoted(
        "On a model with exactly one hidden group and an elementwise ``y -> hidden`` tail, "
        "saturation therefore equals BPTT; on a multi-group model it equals full RTRL *within* "
        "each group, which is not BPTT.",
        braintrace.SnAp,
    ),
    "D_RTRL": quoted("the diagonal approximation", braintrace.D_RTRL),
}

EXCLUDED = "reaches a hidden state only through another trainable ETP primitive"
"""Of the compiler's warnings, the one that bears on the numbers."""


class Net(brainstate.nn.Module):  # type: ignore[misc]  # its types are not there
    """Cells in a row, and a linear readout."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.cells = CELLS[kind]()
        self.out = braintrace.nn.Linear(UNITS, ALPHABET)

    def update(self, x: Any) -> Any:
        """Return the logits."""
        for cell in self.cells:
            x = cell(x)
        return self.out(x)


def _loss(logits: Any, y: Any) -> Any:
    return -jax.nn.log_softmax(logits[0])[y]


def _named(gradient: Any) -> dict[str, Any]:
    """Name the leaves of a gradient, ``0/Wr/weight`` for one of the first cell."""
    return {
        "/".join(str(part) for part in (*path, leaf) if part not in ("cells", "weight"))
        + ("" if leaf == "bias" else "/weight"): np.asarray(value)
        for path, leaves in gradient.items()
        for leaf, value in leaves.items()
    }


def _by_backpropagation(net: Any, weights: Any, xs: Any, ys: Any, *, alone: bool) -> dict[str, Any]:
    """Compute the sum of gradients by backpropagation through their network, or step by step."""

    def total() -> Any:
        brainstate.nn.init_all_states(net, batch_size=1)
        hidden = net.states(brainstate.HiddenState)
        losses = []
        for x, y in zip(xs, ys, strict=True):
            if alone:
                for state in hidden.values():
                    state.value = jax.lax.stop_gradient(state.value)
            losses.append(_loss(net(x), y))
        return jnp.stack(losses).sum()

    return _named(brainstate.transform.grad(total, weights)())


def rows() -> list[dict[str, Any]]:
    """Measure every algorithm on every network."""
    jax.config.update("jax_enable_x64", True)  # type: ignore[no-untyped-call]
    brainstate.environ.set(precision=64)
    symbols = np.random.default_rng(1).integers(0, ALPHABET, STEPS + 1)
    xs = jnp.eye(ALPHABET)[symbols[:-1]][:, None]
    ys = jnp.asarray(symbols[1:])
    found = []
    for kind in CELLS:
        for name, (algorithm, options, runs) in ALGORITHMS.items():
            brainstate.random.seed(0)
            net = Net(kind)
            with warnings.catch_warnings(record=True) as warned:
                warnings.simplefilter("always")
                learner = braintrace.compile(net, algorithm, xs[0], batch_size=1, **options)
            draw = _drawing(learner, xs, ys)
            exact, alone = (
                _by_backpropagation(net, learner.param_states, xs, ys, alone=each)
                for each in (False, True)
            )
            row = judge(exact, alone, draw, runs)
            excluded = any(EXCLUDED in str(each.message) for each in warned)
            warns = f"{EXCLUDED} … this weight is excluded from ETP" if excluded else ""
            found.append(
                {"network": kind, "algorithm": name, "says": SAYS[name], "warns": warns, **row}
            )
    return found


def _drawing(learner: Any, xs: Any, ys: Any) -> Callable[[int], dict[str, Any]]:
    """Return a function from the seed of a run to its sum of gradients."""
    rng = getattr(learner, "projection_rng", None)
    hidden = list(learner.states(brainstate.HiddenState).values())
    at_rest = [jnp.zeros_like(state.value) for state in hidden]

    def run(key: Any) -> Any:
        for state, value in zip(hidden, at_rest, strict=True):
            state.value = value
        learner.reset_state(batch_size=1)
        if rng is not None:
            rng.value = key
        grad = brainstate.transform.grad

        def one(x: Any, y: Any) -> Any:
            return grad(lambda: _loss(learner(x), y), learner.param_states)()

        gradients = [one(x, y) for x, y in zip(xs, ys, strict=True)]
        return jax.tree.map(lambda *leaves: sum(leaves), *gradients)

    jitted = brainstate.transform.jit(run)
    return lambda seed: _named(jitted(jax.random.key(seed)))


if __name__ == "__main__":
    report(["braintrace", "brainstate", "jax"], rows())
