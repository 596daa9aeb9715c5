"""The laws of `Backend`: each of its methods against NumPy, on trees of every shape.

Each check makes its own trees within ``backend.precision(dtype)`` and takes only those.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np

from uoro.algebra import basis, coordinates, norm
from uoro.backend import Backend, Distribution
from uoro.errors import StructureError
from uoro_conformance.finding import UNIT, Finding, largest, worst
from uoro_conformance.monte_carlo import check_mean

ROUNDING = 1e2
"""How many units of roundoff, relative to the size of the result, count as rounding."""

EXTREMES = {
    "float64": (1e-200, 1e-160, 1.0, 1e160, 1e200),
    "float32": (1e-30, 1e-20, 1.0, 1e20, 1e30),
}
"""Sizes at which sums of squares under- and overflow."""


GAUSSIAN: tuple[Distribution, ...] = ("gaussian", "spherical")
"""The laws of noise other than signs."""


class Pair(NamedTuple):
    """A node that must come back as what it was."""

    left: Any
    right: Any


def _tree(seed: int = 0) -> Any:
    """Make a tree with every kind of node: dict, list, tuple, named tuple, empty ones."""
    draw = np.random.default_rng(seed).normal
    return {
        "pair": Pair(draw(size=(2, 3)), (draw(size=3), None)),
        "list": [draw(size=()), ()],
        "array": draw(size=(4,)),
    }


def _stack(count: int) -> Any:
    """Make a stack of such trees, NumPy arrays still."""
    trees = [_tree(seed) for seed in range(count)]
    return {
        "pair": Pair(
            np.stack([tree["pair"].left for tree in trees]),
            (np.stack([tree["pair"].right[0] for tree in trees]), None),
        ),
        "list": [np.stack([tree["list"][0] for tree in trees]), ()],
        "array": np.stack([tree["array"] for tree in trees]),
    }


def _flat(backend: Backend, tree: Any) -> Any:
    """Lay a tree out as one vector on the host, in float64."""
    leaves = [np.asarray(leaf) for _, leaf in backend.named_leaves(backend.to_host(tree))]
    return np.concatenate([leaf.reshape(-1) for leaf in leaves]).astype(np.float64)


def _agree(law: str, backend: Backend, dtype: str, got: Any, wanted: Any) -> Finding:
    """Compare two trees, or arrays."""
    one, two = _flat(backend, got), _flat(backend, backend.from_host(wanted))
    allowed = ROUNDING * UNIT[dtype]
    if one.shape != two.shape:
        evidence = f"It has {one.size} coordinates, wanted are {two.size}."
        return Finding(law, "broken", math.inf, allowed, evidence)
    gap = largest([float(np.linalg.norm(one - two) / (np.linalg.norm(two) or 1.0))])
    evidence = f"Relative gap {gap:.3g} over {two.size} coordinates."
    return Finding(law, "holds" if gap <= allowed else "broken", gap, allowed, evidence)


def _require(law: str, right: bool, evidence: str) -> Finding:
    return Finding(law, "holds" if right else "broken", math.nan, math.nan, evidence)


def _alike(got: Any, wanted: Any) -> str:
    """Say where two trees of nodes differ; nothing if they do not."""
    if type(got) is not type(wanted) and isinstance(wanted, (dict, list, tuple, type(None))):
        return f"a {type(wanted).__name__} came back as a {type(got).__name__}"
    if isinstance(wanted, dict):
        if set(got) != set(wanted):
            return f"a dict came back with the keys {sorted(got)}, wanted are {sorted(wanted)}"
        return next(filter(None, (_alike(got[key], wanted[key]) for key in wanted)), "")
    if isinstance(wanted, (list, tuple)):
        if len(got) != len(wanted):
            return f"{len(got)} entries came back, wanted are {len(wanted)}"
        return next(filter(None, map(_alike, got, wanted)), "")
    return ""


def check_trees(backend: Backend, dtype: str) -> Finding:
    """Check `named_leaves`, `map`, `zeros`, and that every kind of node comes back as it was."""
    law = "trees come back as what they were"
    tree = backend.from_host(_tree(), dtype=dtype)
    names = [name for name, _ in backend.named_leaves(tree)]
    if len(names) != 4 or len(set(names)) != 4:
        return _require(law, False, f"named_leaves gave {names}, wanted are four different names.")
    results = {
        "from_host": tree,
        "map": backend.map(lambda leaf: leaf + 1.0, tree),
        "zeros": backend.zeros(tree, batch=(2,)),
        "combine": backend.combine((2.0, tree)),
        "to_host": backend.to_host(tree),
        "vmap": backend.vmap(lambda entry: entry)(backend.from_host(_stack(3), dtype=dtype)),
        "collect": backend.collect([_tree(0), _tree(1)]),
    }
    for name, result in results.items():
        difference = _alike(result, _tree())
        if difference:
            return _require(law, False, f"backend.{name}: {difference}.")
        if [name for name, _ in backend.named_leaves(result)] != names:
            return _require(law, False, f"backend.{name}: the leaves changed names or order.")
    shapes = [tuple(leaf.shape) for _, leaf in backend.named_leaves(results["zeros"])]
    if _flat(backend, results["zeros"]).any() or {shape[0] for shape in shapes} != {2}:
        return _require(law, False, f"zeros(batch=(2,)) gave numbers other than 0, or {shapes}.")
    for name in ("map", "zeros", "combine", "from_host"):
        found = {
            str(leaf.dtype).rpartition(".")[2] for _, leaf in backend.named_leaves(results[name])
        }
        if found != {dtype}:
            return _require(law, False, f"backend.{name}: dtypes {found}, wanted is {dtype}.")
    try:
        backend.map(lambda a, b: a, tree, {"array": backend.from_host(np.zeros(4), dtype=dtype)})
    except StructureError:
        return _require(law, True, "Seven methods, nodes of six kinds.")
    except Exception as error:
        return _require(law, False, f"map of unlike trees raised {error!r}, not a StructureError.")
    return _require(law, False, "map of unlike trees raised no StructureError.")


def check_algebra(backend: Backend, dtype: str) -> Finding:
    """Check `combine`, `inner`, `matmul` and the unit tangents against NumPy."""
    host = [backend.to_host(backend.from_host(_tree(seed), dtype=dtype)) for seed in range(2)]
    x, y = (backend.from_host(tree) for tree in host)
    a, b = (_flat(backend, tree) for tree in (x, y))
    matrix = np.random.default_rng(5).normal(size=(3, 4)).astype(dtype)
    weights, rows = backend.from_host(matrix), backend.from_host(_stack(4), dtype=dtype)
    laid_out = coordinates(backend, rows)
    numbers = np.asarray(backend.to_host(laid_out), np.float64)
    units = coordinates(backend, basis(backend, x))
    scaled = backend.combine((norm(backend, x), x), (-2.5, y))
    agree = partial(_agree, backend=backend, dtype=dtype)
    return worst(
        [
            agree("combine adds up", got=scaled, wanted=np.linalg.norm(a) * a - 2.5 * b),
            agree("inner sums products", got=backend.inner(x, y), wanted=np.asarray(a @ b)),
            agree(
                "matmul multiplies",
                got=backend.matmul(weights, coordinates(backend, rows)),
                wanted=matrix.astype(float)
                @ np.asarray(backend.to_host(coordinates(backend, rows))),
            ),
            agree(
                "matmul takes a vector",
                got=backend.matmul(weights[0], laid_out),
                wanted=matrix[0].astype(np.float64) @ numbers,
            ),
            agree("basis lists the unit vectors", got=units, wanted=np.eye(len(a))),
        ]
    )._replace(law="vector algebra is NumPy's")


def check_norm(backend: Backend, dtype: str) -> Finding:
    """Check that norms are right from the smallest to the largest numbers, and 0 only for 0.

    `with_norms` must give the trees that were made and the same norms: of one tree, of trees of
    very different sizes at once, and of outer products made within.
    """
    law = "norm neither overflows nor underflows"
    allowed, gaps = ROUNDING * UNIT[dtype], dict[str, float]()
    trees, norms = dict[str, Any](), dict[str, float]()
    for scale in EXTREMES[dtype]:
        tree = {"a": scale * np.array([3.0, 0.0]), "b": np.array(-4.0 * scale)}
        for parts, wanted in ((tree, 5.0 * scale), ({"a": tree["a"]}, 3.0 * scale)):
            trees[f"{wanted:g}"] = backend.from_host(parts, dtype=dtype)
            norms[f"{wanted:g}"] = wanted
    trees["0"], norms["0"] = backend.from_host(np.zeros(3), dtype=dtype), 0.0
    for name, x in trees.items():
        gaps[name] = _off(norm(backend, x), norms[name])
    smallest, *_, largest_one = EXTREMES[dtype]
    together = [f"{5.0 * scale:g}" for scale in (smallest, largest_one)] + ["0"]
    for names in ([together[0]], [together[1]], [together[2]], together):
        given = tuple(trees[name] for name in names)
        made, found = backend.with_norms(lambda given=given: given)  # type: ignore[misc]  # bound early
        gaps["made alone" if len(names) == 1 else "made of three sizes"] = largest(
            [
                *(_off(got, norms[name]) for got, name in zip(found, names, strict=True)),
                *(
                    float(np.abs(_flat(backend, got) - _flat(backend, x)).max() > 0)
                    for got, x in zip(made, given, strict=True)
                ),
                abs(len(made) - len(names)) + abs(len(found) - len(names)),
            ]
        )
    for left, right in ((1.0, 1.0), (smallest, largest_one), (largest_one, smallest), (0.0, 1.0)):
        gaps[f"of an outer product of {left:g} and {right:g}"] = _outer_gap(
            backend, dtype, left, right
        )
    where = max(gaps, key=lambda name: largest([gaps[name]]))
    gap = largest(gaps.values())
    evidence = f"{len(gaps)} cases; furthest off, by {gap:.3g}, where the norm is {where}."
    return Finding(law, "holds" if gap <= allowed else "broken", gap, allowed, evidence)


def _off(got: Any, wanted: float) -> float:
    return abs(float(got) - wanted) / (wanted or 1.0)


def _outer_gap(backend: Backend, dtype: str, left: float, right: float) -> float:
    """Give how far off the norm is of a tree with an outer product in it, and the tree itself."""
    column, row = left * np.array([[3.0], [0.0], [4.0]]), right * np.array([[-5.0, 12.0]])
    factors = backend.from_host((column, row), dtype=dtype)
    alone = backend.from_host(np.array([2.0, -1.0]), dtype=dtype)

    def make() -> tuple[Any, Any]:
        return {"alone": alone, "outer": backend.matmul(*factors)}, alone

    (made, same), norms = backend.with_norms(make)
    flat = np.concatenate([[2.0, -1.0], (column @ row).reshape(-1)])
    wanted = float(np.linalg.norm(flat)), math.sqrt(5.0)
    return largest(
        [
            *(_off(got, true) for got, true in zip(norms, wanted, strict=True)),
            float(np.linalg.norm(_flat(backend, made) - flat)) / wanted[0],
            float(np.linalg.norm(_flat(backend, same) - flat[:2])),
        ]
    )


def check_loops(backend: Backend, dtype: str) -> Finding:
    """Check `vmap`, `scan` in both directions and in parts, and `compile`, against loops."""
    host = backend.to_host(backend.from_host(_stack(4), dtype=dtype))["array"].astype(np.float64)
    stack = backend.from_host(_stack(4), dtype=dtype)
    shared = backend.from_host(np.arange(1.0, 5.0), dtype=dtype)
    agree = partial(_agree, backend=backend, dtype=dtype)

    def each(entry: Any, factor: Any) -> Any:
        return {"product": entry["array"] * shared * factor, "sum": entry["array"].sum()}

    def body(carry: Any, entry: Any) -> tuple[Any, Any]:
        carry = 0.5 * carry + entry["array"]
        return carry, {"seen": carry * 2.0}

    factors = np.array([1.0, -2.0, 3.0, 0.5])
    mapped = backend.vmap(each)(stack, backend.from_host(factors, dtype=dtype))
    found = [
        agree(
            "vmap is a loop",
            got=mapped,
            wanted={"product": host * np.arange(1.0, 5.0) * factors[:, None], "sum": host.sum(1)},
        )
    ]
    start = backend.from_host(np.zeros(4), dtype=dtype)
    for bounds in ((0, 4), (1, 3), (2, 3)):
        carry, seen = np.zeros(4), np.zeros((4, 4))
        for i in range(*bounds):
            carry = 0.5 * carry + host[i]
            seen[i] = 2.0 * carry
        part = backend.compile(lambda *bounds: backend.scan(body, start, stack, bounds=bounds))
        law = f"scan from {bounds[0]} up to {bounds[1]} is a loop"
        found.append(agree(law, got=part(*bounds), wanted=(carry, {"seen": seen})))
    for reverse in (False, True):
        carry, outputs = np.zeros(4), []
        for row in host[::-1] if reverse else host:
            carry = 0.5 * carry + row
            outputs.append(2.0 * carry)
        wanted = carry, {"seen": np.stack(outputs[::-1] if reverse else outputs)}
        run = partial(backend.scan, body, reverse=reverse)
        for name, scan in (("scan", run), ("compiled scan", backend.compile(run))):
            law = f"{name} is a loop{' in reverse' if reverse else ''}"
            found.append(agree(law, got=scan(start, stack), wanted=wanted))
            twice = backend.combine((2.0, start + 1.0)), backend.combine((0.0, stack))
            decayed = 2.0 * 0.5 ** len(host) * np.ones(4)
            found.append(agree(f"{law}, called again", got=scan(*twice)[0], wanted=decayed))
    return worst(found)._replace(law="loops are loops")


def check_border(backend: Backend, dtype: str) -> Finding:
    """Check that numbers go to the backend and back unchanged, alone and collected."""
    host = {"a": np.random.default_rng(1).normal(size=(2, 3)), "b": np.array(1 / 3)}
    back = backend.to_host(backend.from_host(host, dtype=dtype))
    same = all(np.array_equal(np.asarray(back[name]), host[name].astype(dtype)) for name in host)
    number = np.asarray(backend.to_host(backend.from_host(np.arange(3))))
    stack = backend.collect([{"i": np.array(i), "x": np.full(2, float(i))} for i in range(3)])
    counted = np.asarray(backend.to_host(stack)["i"])
    right = same and number.dtype.kind == "i" and list(counted) == [0, 1, 2]
    return _require(
        "numbers cross the border unchanged",
        right,
        f"Floats {'came back bit for bit' if same else 'changed'}; integers came back as "
        f"{number.dtype}; three items were stacked as {counted.tolist()}.",
    )


def check_draws(backend: Backend, dtype: str) -> Finding:
    """Check that draws are functions of their key, shaped as asked, within their law's support."""
    law, problems = "draws are functions of their key", list[str]()
    like = backend.from_host({"a": np.zeros((2, 3)), "b": np.zeros(3)}, dtype=dtype)
    key, wide = backend.key(3), backend.zeros(like, batch=(8,))
    keys = {
        "key(3)": key,
        "fold(key(3), 0)": backend.fold(key, 0),
        "fold(key(3), 1)": backend.fold(key, 1),
        "fold(fold(key(3), 0), 0)": backend.fold(backend.fold(key, 0), 0),
        "key(4)": backend.key(4),
        "fold(key(4), 0)": backend.fold(backend.key(4), 0),
    }
    drawn = {
        name: _flat(backend, backend.random(each, wide, "signs")) for name, each in keys.items()
    }
    for one, two in combinations(drawn, 2):
        if np.array_equal(drawn[one], drawn[two]):
            problems.append(f"{one} and {two} gave the same {drawn[one].size} signs")
    again = backend.random(backend.fold(backend.key(3), 0), wide, "signs")
    if not np.array_equal(drawn["fold(key(3), 0)"], _flat(backend, again)):
        problems.append("equal keys gave different draws")
    if not all(set(np.unique(draws)) <= {-1.0, 1.0} for draws in drawn.values()):
        problems.append("signs other than ±1")
    laws: tuple[Distribution, ...] = (
        "signs",
        *(name for name in GAUSSIAN if name not in backend.lacks),
    )
    for each in laws:
        shaped = backend.random(key, backend.zeros(like, batch=(2,)), each, (5,), 1)
        shapes = [tuple(leaf.shape) for _, leaf in backend.named_leaves(shaped)]
        if shapes != [(2, 5, 2, 3), (2, 5, 3)]:
            problems.append(f"{each}: batch=(5,), stacked=1 gave the shapes {shapes}")
    if "spherical" in laws:
        draws = coordinates(backend, backend.random(key, like, "spherical", (4,)))
        lengths = np.linalg.norm(np.asarray(backend.to_host(draws), np.float64), axis=1)
        off = float(np.abs(lengths / 3.0 - 1.0).max())
        if not off <= ROUNDING * UNIT[dtype]:
            problems.append(f"spherical draws are off their length by {off:.3g}")
    evidence = "; ".join(problems) or f"{len(keys)} keys, {len(laws)} laws."
    return _require(law, not problems, evidence)


def check_dynamics(backend: Backend, dtype: str) -> Finding:
    """Check that states of several shapes, and a third thing returned, go through dynamics."""
    law, problems = "dynamics take any tree and pass the third element on", list[str]()
    array = backend.from_host(np.array([0.3, -0.2]), dtype=dtype)
    states: dict[str, Any] = {
        "an array": array,
        "a tuple": (array, array),
        "a named tuple": Pair(array, array),
        "a nested dict": {"a": {"b": array}, "c": array},
    }
    w = backend.from_host(np.array(0.7), dtype=dtype)
    for name, state in states.items():

        def transition(w: Any, state: Any, x: Any) -> Any:
            return _through(w, state), _total(w, state) + x, {"seen": x * 2.0}

        dynamics = backend.dynamics(transition, has_aux=True, check=False)
        for method, outcome in (
            ("forward", dynamics.forward(w, state, w)),
            ("vjp", dynamics.vjp(w, state, w)[0]),
        ):
            got = float(np.asarray(backend.to_host(outcome.aux)["seen"]))
            if abs(got - 1.4) > 1e-6:
                problems.append(f"{method}, state {name}: aux is {got}, wanted is 1.4")
            if _alike(outcome.next_state, state):
                problems.append(f"{method}: {_alike(outcome.next_state, state)}")
        pulled = dynamics.vjp(w, state, w)[1](state, None)[1]
        wanted = backend.combine((0.7, state))
        gap = _flat(backend, pulled) - _flat(backend, wanted)
        if float(np.abs(gap).max()) > ROUNDING * UNIT[dtype]:
            problems.append(f"vjp, state {name}: the pullback is off by {np.abs(gap).max():.3g}")
    evidence = "; ".join(problems) or f"States that are {', '.join(states)}."
    return _require(law, not problems, evidence)


def _through(w: Any, state: Any) -> Any:
    """Multiply every leaf by w, node by node: a transition sees the framework's traced arrays."""
    if isinstance(state, dict):
        return {key: _through(w, value) for key, value in state.items()}
    if isinstance(state, Pair):
        return Pair(*(_through(w, value) for value in state))
    if isinstance(state, tuple):
        return tuple(_through(w, value) for value in state)
    return w * state


def _total(w: Any, state: Any) -> Any:
    """Sum all leaves, times w."""
    if isinstance(state, dict):
        return sum((_total(w, value) for value in state.values()), 0.0)
    if isinstance(state, tuple):
        return sum((_total(w, value) for value in state), 0.0)
    return (w * state).sum()


def check_gaussian(backend: Backend, dtype: str, *, alpha: float = 1e-10, seed: int = 0) -> Finding:
    """Check mean, variance and covariance of Gaussian and spherical draws by sampling."""
    like = backend.from_host({"a": np.zeros(2), "b": np.zeros(())}, dtype=dtype)

    def sample(number: int) -> Any:
        key, columns = backend.fold(backend.key(seed), number), []
        for index, law in enumerate(GAUSSIAN):
            draws = backend.random(backend.fold(key, index), like, law, (2048,))
            rows = np.asarray(backend.to_host(coordinates(backend, draws)), np.float64)
            columns += [rows[:, i] for i in range(3)]
            columns += [rows[:, i] * rows[:, j] for i in range(3) for j in range(i + 1)]
        return np.stack(columns, axis=1)

    moments = [f"mean of {i}" for i in range(3)]
    moments += [f"mean of {i} × {j}" for i in range(3) for j in range(i + 1)]
    names = [f"{law}: {moment}" for law in GAUSSIAN for moment in moments]
    exact = [0.0, 0.0, 0.0, *(float(i == j) for i in range(3) for j in range(i + 1))] * 2
    found = check_mean(sample, exact, names, delta=0.2, alpha=alpha, law="Gaussian and spherical ν")
    return found._replace(verdict="broken") if found.verdict == "biased" else found


Primitive = Callable[[Backend, str], Finding]

PRIMITIVES: Sequence[tuple[str, Primitive]] = (
    ("trees", check_trees),
    ("algebra", check_algebra),
    ("norm", check_norm),
    ("loops", check_loops),
    ("border", check_border),
    ("draws", check_draws),
    ("dynamics", check_dynamics),
)
"""Checks that leave nothing to chance, by name."""
