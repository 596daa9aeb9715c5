"""What a learner holds, as arrays on the host under names that every backend gives alike."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from uoro.arguments import leaf_name
from uoro.backend import Backend, Tree
from uoro.errors import StructureError
from uoro.learning.optimizers import Clipped
from uoro.optimizer import Optimizer, ParamsFirst, Savable


class Saved(NamedTuple):
    """Everything that determines what a learner does next, but the stream.

    Attributes:
        arrays: Host arrays by name: ``"params/recurrent"``, ``"memory/tangent/h"``, ….
        counts: What JSON can say: ``"steps"``, ``"seed"``, how many steps were skipped and how
            often the memory started anew, and the numbers of an optimizer that keeps its own.
    """

    arrays: dict[str, Any]
    counts: dict[str, Any]


def keeper(optimizer: Optimizer) -> Savable | None:
    """Return the optimizer, or the one within it, that keeps its state itself, if there is one."""
    while isinstance(optimizer, (Clipped, ParamsFirst)):
        optimizer = optimizer.optimizer
    return optimizer if isinstance(optimizer, Savable) else None


def named_arrays(backend: Backend, tree: Any, name: str) -> dict[str, Any]:
    """List the leaves of a tree on the host, by their paths below ``name``.

    The fields of a `NamedTuple` are named here, as frameworks spell them differently.
    """
    host = backend.to_host(tree)
    return dict(_named(backend, host, name))


def restored(backend: Backend, like: Tree, arrays: dict[str, Any], name: str, call: str) -> Tree:
    """Make a tree like another of the arrays that `named_arrays` listed.

    Args:
        backend: Any; it need not be the one that the arrays come from.
        like: The structure, shapes and dtypes.
        arrays: Those below ``name`` are looked at.
        name: As for `named_arrays`.
        call: What was called, for the error.

    Raises:
        StructureError: If an array is missing, left over, or of another shape.
    """
    wanted = dict(_named(backend, like, name))
    given = {path for path in arrays if path == name or path.startswith(f"{name}/")}
    if given != set(wanted):
        raise StructureError(
            f"{call}: under '{name}' are saved {_listed(given - set(wanted))} that this learner "
            f"has not, and {_listed(set(wanted) - given)} are missing. Make the learner of the "
            "same model, estimator and optimizer."
        )
    # Keys are saved as the numbers they are made of.
    hosts = named_arrays(backend, like, name)
    for path, host in hosts.items():
        if tuple(arrays[path].shape) != tuple(host.shape):
            raise StructureError(
                f"{call}: {leaf_name(path)} is saved with shape {tuple(arrays[path].shape)}, "
                f"this learner's has {tuple(host.shape)}. Make the learner of the same model, "
                "estimator and optimizer."
            )
    inverse = iter(wanted)
    return backend.map(lambda leaf: backend.from_host(arrays[next(inverse)]), like)


def _listed(names: Iterable[str]) -> str:
    return str(sorted(names)) if names else "none"


def _named(backend: Backend, tree: Any, name: str) -> Iterator[tuple[str, Any]]:
    fields = getattr(tree, "_fields", None) if isinstance(tree, tuple) else None
    if fields is not None:
        for field, part in zip(fields, tree, strict=True):
            yield from _named(backend, part, f"{name}/{field}")
        return
    for path, leaf in backend.named_leaves(tree):
        yield (f"{name}/{path}" if path else name), leaf
