"""Compare the numbers of this checkout with those of another one, bit by bit.

Runs the same models on the same items with the same signs in both checkouts, in a process for each
checkout and backend, and compares tangents s̃, cotangents θ̃, gradients g̃, losses and states at every
step. Models are written here, in plain array code; of the library only names are used that have
stayed the same, and the joint estimator by either of its two names.

    python benchmarks/parity.py ../uoro-before
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

BACKENDS = ("autograd", "torch", "jax")
DTYPES = ("float32", "float64")
UNITS, INPUTS, STEPS, SEED = 6, 3, 20, 7
HERE = Path(__file__).resolve().parent.parent


class System(NamedTuple):
    """A model, an estimator, and how they are run.

    Attributes:
        model: Makes ``(transition, params, state)`` of an array namespace and a generator.
        estimator: Makes the estimator.
        draws: Shape of the leading axes of the signs of a step.
        span: Number of items of a step.
        streams: Number of streams; 0 for one without a leading axis.
        needs: What the backend must not lack.
    """

    model: Callable[[Any, np.random.Generator], tuple[Any, Any, Any]]
    estimator: Callable[[], Any]
    draws: tuple[int, ...] = ()
    span: int = 1
    streams: int = 0
    needs: str = ""


# Models.


def _weights(generator: np.random.Generator, *shape: int) -> Any:
    return generator.normal(size=shape) / np.sqrt(shape[-1])


def _sigmoid(xp: Any, x: Any) -> Any:
    return 1.0 / (1.0 + xp.exp(-x))


def _loss(xp: Any, hidden: Any) -> Any:
    return 0.5 * xp.sum((hidden - 0.5) ** 2)


def rnn(xp: Any, generator: np.random.Generator) -> tuple[Any, Any, Any]:
    """Build a tanh network."""

    def transition(params: Any, state: Any, x: Any) -> Any:
        hidden = xp.tanh(params["w"] @ state + params["u"] @ x + params["b"])
        return hidden, _loss(xp, hidden)

    params = {
        "w": _weights(generator, UNITS, UNITS),
        "u": _weights(generator, UNITS, INPUTS),
        "b": np.zeros(UNITS),
    }
    return transition, params, np.zeros(UNITS)


def gru(xp: Any, generator: np.random.Generator) -> tuple[Any, Any, Any]:
    """Build a gated recurrent unit."""

    def transition(params: Any, state: Any, x: Any) -> Any:
        update = _sigmoid(xp, params["wz"] @ state + params["uz"] @ x)
        reset = _sigmoid(xp, params["wr"] @ state + params["ur"] @ x)
        new = xp.tanh(params["wn"] @ (reset * state) + params["un"] @ x)
        hidden = update * state + (1.0 - update) * new
        return hidden, _loss(xp, hidden)

    params = {f"w{gate}": _weights(generator, UNITS, UNITS) for gate in "zrn"}
    params |= {f"u{gate}": _weights(generator, UNITS, INPUTS) for gate in "zrn"}
    return transition, params, np.zeros(UNITS)


def lstm(xp: Any, generator: np.random.Generator) -> tuple[Any, Any, Any]:
    """Build a long short-term memory, with a state of two arrays."""

    def transition(params: Any, state: Any, x: Any) -> Any:
        def gate(name: str) -> Any:
            return params[f"w{name}"] @ state["h"] + params[f"u{name}"] @ x

        kept = _sigmoid(xp, gate("f") + 1.0) * state["c"]
        cell = kept + _sigmoid(xp, gate("i")) * xp.tanh(gate("g"))
        hidden = _sigmoid(xp, gate("o")) * xp.tanh(cell)
        return {"c": cell, "h": hidden}, _loss(xp, hidden)

    params = {f"w{gate}": _weights(generator, UNITS, UNITS) for gate in "figo"}
    params |= {f"u{gate}": _weights(generator, UNITS, INPUTS) for gate in "figo"}
    return transition, params, {"c": np.zeros(UNITS), "h": np.zeros(UNITS)}


def stack(xp: Any, generator: np.random.Generator) -> tuple[Any, Any, Any]:
    """Build two tanh layers, one on top of the other."""

    def transition(params: Any, state: Any, x: Any) -> Any:
        below = xp.tanh(params["w0"] @ state[0] + params["u0"] @ x)
        above = xp.tanh(params["w1"] @ state[1] + params["u1"] @ below)
        return (below, above), _loss(xp, above)

    params = {
        "w0": _weights(generator, UNITS, UNITS),
        "u0": _weights(generator, UNITS, INPUTS),
        "w1": _weights(generator, UNITS, UNITS),
        "u1": _weights(generator, UNITS, UNITS),
    }
    return transition, params, (np.zeros(UNITS), np.zeros(UNITS))


def rotating(xp: Any, generator: np.random.Generator) -> tuple[Any, Any, Any]:
    """Build a linear network with a complex state."""

    def transition(params: Any, state: Any, x: Any) -> Any:
        pole = xp.exp(-0.1 + 1j * params["angle"])
        hidden = pole * state + (params["u"] @ x) * (1.0 + 0.5j)
        return hidden, 0.5 * xp.sum(xp.abs(hidden - 0.5) ** 2)

    params = {"angle": generator.normal(size=UNITS), "u": _weights(generator, UNITS, INPUTS)}
    return transition, params, np.zeros(UNITS, np.complex128)


def counting(xp: Any, generator: np.random.Generator) -> tuple[Any, Any, Any]:
    """Build a tanh network that counts its steps in an integer leaf of its state."""
    step, params, hidden = rnn(xp, generator)

    def transition(params: Any, state: Any, x: Any) -> Any:
        hidden, loss = step(params, state["h"], x)
        return {"h": hidden, "count": state["count"] + 1}, loss

    return transition, params, {"h": hidden, "count": np.array(0, np.int32)}


# Estimators.


def uoro(rank: int = 1, **settings: Any) -> Any:
    """Build independent pairs."""
    from uoro import UORO

    return UORO(rank=rank, **settings)


def joint(rank: int, **settings: Any) -> Any:
    """Build joint pairs, by the name that they have in this checkout."""
    import uoro

    if hasattr(uoro, "JointUORO"):
        return uoro.JointUORO(rank, **settings)
    former: Any = uoro.UORO
    return former(rank=rank, reduction="optimal", **settings)


def streams(make: Callable[[], Any], count: int) -> Any:
    """Build an estimator of several streams."""
    from uoro import Streams

    return Streams(make(), count)


SYSTEMS = {
    "rnn": System(rnn, uoro),
    "gru": System(gru, uoro),
    "lstm": System(lstm, uoro),
    "stack": System(stack, uoro),
    "complex state": System(rotating, uoro, needs="complex"),
    "integer state": System(counting, uoro, needs="integers"),
    "rank 3": System(gru, partial(uoro, 3), (3,)),
    "joint 4": System(gru, partial(joint, 4), (2,)),
    "3 streams": System(gru, partial(streams, uoro, 3), streams=3),
    "unrolled, T = 4": System(lstm, uoro, span=4),
    "rank 2, scaled, 2 streams": System(
        gru, partial(streams, partial(uoro, 2, scaling="rows"), 2), (2,), streams=2
    ),
    "joint 1": System(lstm, partial(joint, 1), (2,)),
    "joint 2, scaled, 3 streams": System(
        gru, partial(streams, partial(joint, 2, scaling="rows"), 3), (2,), streams=3
    ),
    "joint 2, unrolled, T = 4": System(stack, partial(joint, 2), (2,), span=4),
    "rank 2, pair in float16": System(gru, partial(uoro, 2, pair_dtype="float16"), (2,)),
    "joint 2, pair in float16": System(gru, partial(joint, 2, pair_dtype="float16"), (2,)),
}


# Running.


def _stacked(tree: Any, count: int) -> Any:
    """Repeat a tree of arrays, with something else in each copy."""
    if isinstance(tree, dict):
        return {name: _stacked(leaf, count) for name, leaf in tree.items()}
    if isinstance(tree, tuple):
        return tuple(_stacked(leaf, count) for leaf in tree)
    return np.stack([tree + tree.dtype.type(number) for number in range(count)])


def _signs(tree: Any, batch: tuple[int, ...], generator: np.random.Generator) -> Any:
    """Draw signs shaped like a tree, and nothing for integers."""
    if isinstance(tree, dict):
        return {name: _signs(leaf, batch, generator) for name, leaf in sorted(tree.items())}
    if isinstance(tree, tuple):
        return tuple(_signs(leaf, batch, generator) for leaf in tree)
    if tree.dtype.kind == "i":
        return None
    drawn = generator.choice([-1.0, 1.0], (*batch, *tree.shape))
    if tree.dtype.kind == "c":
        return drawn + 1j * generator.choice([-1.0, 1.0], (*batch, *tree.shape))
    return drawn


def run(backend: Any, system: System, dtype: str) -> Iterator[tuple[str, Any]]:
    """Run a system and yield every array at every step, by name."""
    from uoro import unroll

    generator = np.random.default_rng(SEED)
    transition, params, state = system.model(backend.xp, generator)
    dynamics = backend.dynamics(transition)
    if system.span > 1:
        dynamics = unroll(dynamics, system.span)
    lead = (system.streams,) if system.streams else ()
    shape = lead + ((system.span,) if system.span > 1 else ())
    draws, alone = lead + system.draws, state
    if system.streams:
        state = _stacked(state, system.streams)
    estimator = system.estimator()
    params, state = (backend.from_host(tree, dtype=dtype) for tree in (params, state))
    carry = estimator.init(dynamics, params, state)
    step = backend.compile(partial(estimator.step, dynamics))
    for number in range(STEPS):
        item = backend.from_host(generator.normal(size=(*shape, INPUTS)), dtype=dtype)
        signs = backend.from_host(_signs(alone, draws, generator), dtype=dtype)
        carry, state, estimate = step(params, carry, state, item, signs)
        for kind, tree in (
            ("tangent", carry.tangent),
            ("cotangent", carry.cotangent),
            ("gradient", estimate.gradient),
            ("loss", [estimate.loss]),
            ("state", state),
        ):
            for place, (_, leaf) in enumerate(backend.named_leaves(tree)):
                yield f"{kind}/{number}/{place}", np.asarray(backend.to_host(leaf))


def record(name: str, path: Path, checkout: Path) -> None:
    """Run every system on one backend, with the code of a checkout, and save all numbers."""
    import uoro
    from uoro import load_backend

    place = Path(uoro.__file__)
    if not place.is_relative_to(checkout):
        raise SystemExit(f"parity.py: expected uoro of {checkout}, got {place}.")
    found: dict[str, Any] = {}
    for dtype in DTYPES:
        backend = load_backend(name)
        with backend.precision(dtype), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for title, system in SYSTEMS.items():
                if {system.needs, dtype} & set(backend.lacks):
                    continue
                for where, array in run(backend, system, dtype):
                    found[f"{title}/{dtype}/{where}"] = array
    np.savez(path, **found)


def numbers_of(checkout: Path, backend: str, path: Path) -> dict[str, Any]:
    """Run every system on one backend in a process with the code of a checkout."""
    python = checkout / ".venv" / "bin" / "python"
    command = [str(python) if python.exists() else sys.executable, __file__, "--record", backend]
    code = os.pathsep.join(map(str, (checkout, checkout / "backends")))
    command += ["--out", str(path), str(checkout)]
    subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": code})
    with np.load(path) as saved:
        return dict(saved)


def compare(one: dict[str, Any], other: dict[str, Any], title: str) -> tuple[str, bool]:
    """Return what to print of one system, and whether all bits are the same."""
    names, others = ([key for key in each if key.startswith(f"{title}/")] for each in (one, other))
    if names != others:
        return f"{len(names)} arrays, not {len(others)}", False
    if not names:
        return "not supported", True
    for key in names:
        mine, theirs = one[key], other[key]
        same_kind = (mine.dtype, mine.shape) == (theirs.dtype, theirs.shape)
        if not same_kind or mine.tobytes() != theirs.tobytes():
            gap = np.abs(mine - theirs).max() / (np.abs(theirs).max() or 1.0) if same_kind else 1.0
            return f"{key.removeprefix(title + '/')}: {gap:.1e}", False
    return f"same bits, {len(names)} arrays", True


def main() -> int:
    """Compare, print a table, and return 1 if any number differs."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "checkout",
        type=Path,
        nargs="?",
        help="the other checkout; with --record, the one of the code",
    )
    parser.add_argument("--backends", default=",".join(BACKENDS))
    parser.add_argument("--record", metavar="BACKEND", help="save the numbers of one checkout")
    parser.add_argument("--out", type=Path, default=Path("parity.npz"), help="with --record")
    options = parser.parse_args()
    if options.record:
        record(options.record, options.out, (options.checkout or HERE).resolve())
        return 0
    if options.checkout is None:
        parser.error("expected the path of another checkout")
    columns = options.backends.split(",")
    table, sound = dict[tuple[str, str], str](), True
    with tempfile.TemporaryDirectory() as folder:
        for backend in columns:
            here, there = (
                numbers_of(checkout.resolve(), backend, Path(folder) / f"{backend}{number}.npz")
                for number, checkout in enumerate((HERE, options.checkout))
            )
            for title in SYSTEMS:
                table[title, backend], same = compare(here, there, title)
                sound &= same
    print(f"| system | {' | '.join(columns)} |\n| --- {'| --- ' * len(columns)}|")
    for title in SYSTEMS:
        print(f"| {title} | {' | '.join(table[title, backend] for backend in columns)} |")
    return 0 if sound else 1


if __name__ == "__main__":
    raise SystemExit(main())
