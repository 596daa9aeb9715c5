"""Whether trees, and the numbers in them, pass unchanged through the methods of a backend."""

from __future__ import annotations

import numpy as np

from uoro.backend import Backend
from uoro.errors import StructureError
from uoro_conformance.backend.specimens import (
    example_stack,
    example_tree,
    flatten,
    judge,
    mismatch,
)
from uoro_conformance.finding import Finding


def check_trees(backend: Backend, dtype: str) -> Finding:
    """Check that `map`, `zeros` and five other methods return every kind of node as it was."""
    law = "trees keep their nodes"
    tree = backend.from_host(example_tree(), dtype=dtype)
    names = [name for name, _ in backend.named_leaves(tree)]
    if len(names) != 4 or len(set(names)) != 4:
        return judge(law, False, f"named_leaves: expected four different names, got {names}.")
    results = {
        "from_host": tree,
        "map": backend.map(lambda leaf: leaf + 1.0, tree),
        "zeros": backend.zeros(tree, batch=(2,)),
        "combine": backend.combine((2.0, tree)),
        "to_host": backend.to_host(tree),
        "vmap": backend.vmap(lambda entry: entry)(backend.from_host(example_stack(3), dtype=dtype)),
        "collect": backend.collect([example_tree(0), example_tree(1)]),
    }
    for name, result in results.items():
        difference = mismatch(result, example_tree())
        if difference:
            return judge(law, False, f"backend.{name}: {difference}.")
        if [name for name, _ in backend.named_leaves(result)] != names:
            return judge(law, False, f"backend.{name}: the leaves changed names or order.")
    shapes = [tuple(leaf.shape) for _, leaf in backend.named_leaves(results["zeros"])]
    if flatten(backend, results["zeros"]).any() or {shape[0] for shape in shapes} != {2}:
        return judge(
            law,
            False,
            f"zeros(batch=(2,)): expected zeros with a leading axis of 2, got shapes {shapes}.",
        )
    for name in ("map", "zeros", "combine", "from_host"):
        found = {
            str(leaf.dtype).rpartition(".")[2] for _, leaf in backend.named_leaves(results[name])
        }
        if found != {dtype}:
            return judge(law, False, f"backend.{name}: expected dtype {dtype}, got {found}.")
    try:
        backend.map(lambda a, b: a, tree, {"array": backend.from_host(np.zeros(4), dtype=dtype)})
    except StructureError:
        return judge(law, True, "Seven methods, nodes of six kinds.")
    except Exception as error:
        return judge(law, False, f"map of unlike trees: expected a StructureError, got {error!r}.")
    return judge(law, False, "map of unlike trees: expected a StructureError, got none.")


def check_border(backend: Backend, dtype: str) -> Finding:
    """Check that numbers go to the backend and back unchanged, alone and in a collected stack."""
    host = {"a": np.random.default_rng(1).normal(size=(2, 3)), "b": np.array(1 / 3)}
    back = backend.to_host(backend.from_host(host, dtype=dtype))
    same = all(np.array_equal(np.asarray(back[name]), host[name].astype(dtype)) for name in host)
    number = np.asarray(backend.to_host(backend.from_host(np.arange(3))))
    stack = backend.collect([{"i": np.array(i), "x": np.full(2, float(i))} for i in range(3)])
    counted = np.asarray(backend.to_host(stack)["i"])
    right = same and number.dtype.kind == "i" and list(counted) == [0, 1, 2]
    return judge(
        "numbers go to the backend and back unchanged",
        right,
        f"Floats {'came back bit for bit' if same else 'changed'}; integers came back as "
        f"{number.dtype}; three items were stacked as {counted.tolist()}.",
    )
