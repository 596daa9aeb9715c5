"""What a learner holds, as arrays on the host under names that are equal on every backend."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from uoro.arguments import leaf_name
from uoro.backend import Backend, Tree
from uoro.errors import StructureError
from uoro.learning.carry import Progress
from uoro.learning.optimizers import Clipped
from uoro.learning.update import Update
from uoro.optimizer import Optimizer, ParamsFirst, Savable

OLD = "memory"
"""Name of the estimator's arrays in versions before 0.2, now ``"carry"``."""
NUMBERS = ("seed", "steps", "skipped", "skipped_in_a_row", "resets")


class Saved(NamedTuple):
    """Everything that determines what a learner does next, except the stream.

    Attributes:
        arrays: Host arrays by name: ``"params/recurrent"``, ``"carry/tangent/h"``, ….
        counts: Numbers as JSON can write them: ``"steps"``, ``"seed"``, the numbers of skipped
            items and of resets, and the numbers of a `uoro.optimizer.Savable` optimizer.
    """

    arrays: dict[str, Any]
    counts: dict[str, Any]


def export_progress(update: Update, now: Progress) -> tuple[dict[str, Any], Any]:
    """Return host arrays by name, and the numbers of an optimizer that keeps its state itself.

    Raises:
        SettingError: If the optimizer keeps something that cannot be saved.
    """
    backend, own = update.backend, keeper(update.optimizer)
    kept, numbers = (now.optimizer, None) if own is None else own.export(backend)
    arrays = named_arrays(backend, now.params, "params")
    arrays |= named_arrays(backend, now.state, "state")
    if now.carry is not None:
        arrays |= named_arrays(backend, now.carry, "carry")
        arrays |= named_arrays(backend, kept, "optimizer")
    return arrays, numbers


def restore_progress(
    update: Update, now: Progress, saved: Saved, inputs: Any, call: str
) -> Progress:
    """Return the progress that `export_progress` saved; change the optimizer that saves itself.

    Args:
        update: Update of a learner of the same model, estimator and optimizer.
        now: Progress of that learner, for structure, shapes and dtypes.
        saved: Arrays and numbers; arrays named as before version 0.2 are accepted.
        inputs: One item of the stream; ``None`` where the estimator stores no items.
        call: The call, as the user wrote it.

    Raises:
        StructureError: If the arrays are those of another model, estimator or optimizer.
    """
    backend, own = update.backend, keeper(update.optimizer)
    arrays = under_present_names(saved.arrays)
    params = restored(backend, now.params, arrays, "params", call)
    state = restored(backend, now.state, arrays, "state", call)
    after = Progress(params, state, None, None)
    if saved.counts["started"]:
        fresh = update.start(now, inputs)
        after = after._replace(
            carry=restored(backend, fresh.carry, arrays, "carry", call),
            optimizer=fresh.optimizer
            if own is not None
            else restored(backend, fresh.optimizer, arrays, "optimizer", call),
        )
    if own is not None:
        # The optimizer changes its params in place: the learner keeps these very tensors.
        own.restore(backend, now.params, params, arrays, saved.counts["optimizer"])
        after = after._replace(params=now.params)
    return after


def require_counts(saved: Saved, call: str) -> dict[str, Any]:
    """Return the counts of what `Learner.export` returned.

    Raises:
        StructureError: If one is missing or no count.
    """
    try:
        counts = {name: saved.counts[name] for name in (*NUMBERS, "started", "optimizer")}
        for name in NUMBERS:
            if type(counts[name]) is not int or counts[name] < 0:
                raise TypeError(f"'{name}' is {counts[name]!r:.60}")
    except (KeyError, TypeError, AttributeError) as error:
        raise StructureError(
            f"{call}: expected what export() returns, got something else "
            f"({type(error).__name__}: {error})."
        ) from error
    return counts


def keeper(optimizer: Optimizer) -> Savable | None:
    """Return the optimizer, or the one within it, that keeps its state itself, if there is one."""
    while isinstance(optimizer, (Clipped, ParamsFirst)):
        optimizer = optimizer.optimizer
    return optimizer if isinstance(optimizer, Savable) else None


def under_present_names(arrays: dict[str, Any]) -> dict[str, Any]:
    """Return arrays saved by any version under the names of this one."""
    return {
        f"carry{name.removeprefix(OLD)}" if f"{name}/".startswith(f"{OLD}/") else name: array
        for name, array in arrays.items()
    }


def named_arrays(backend: Backend, tree: Any, name: str) -> dict[str, Any]:
    """Return the leaves of a tree on the host, by their paths below ``name``.

    The fields of a `NamedTuple` are named here, because frameworks spell them differently.
    """
    host = backend.to_host(tree)
    return dict(_named(backend, host, name))


def restored(backend: Backend, like: Tree, arrays: dict[str, Any], name: str, call: str) -> Tree:
    """Build a tree of the arrays that `named_arrays` listed.

    Args:
        backend: Backend of the tree; the arrays may come from another backend.
        like: Structure, shapes and dtypes of the tree.
        arrays: Host arrays by name; only those below ``name`` count.
        name: Name given to `named_arrays`.
        call: The call, as the user wrote it.

    Raises:
        StructureError: If an array is missing, left over, or of another shape.
    """
    expected = dict(_named(backend, like, name))
    given = {path for path in arrays if path == name or path.startswith(f"{name}/")}
    hint = "Build the learner of the same model, estimator and optimizer."
    if given != set(expected):
        raise StructureError(
            f"{call}: expected the arrays of this learner, got others under '{name}': only in what "
            f"was saved: {_listed(given - set(expected))}; only in the learner: "
            f"{_listed(set(expected) - given)}. {hint}"
        )
    # Keys are saved as the numbers they are made of.
    hosts = named_arrays(backend, like, name)
    for path, host in hosts.items():
        if tuple(arrays[path].shape) != tuple(host.shape):
            raise StructureError(
                f"{call}: {leaf_name(path)}: expected shape {tuple(host.shape)}, got "
                f"{tuple(arrays[path].shape)} in what was saved. {hint}"
            )
    inverse = iter(expected)
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
