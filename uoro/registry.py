"""The registry of backends: entry points of the group ``uoro.backends``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from uoro.arguments import require_known
from uoro.backend import Backend
from uoro.errors import BrokenBackendError, MissingFrameworkError, spelled

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

ENTRY_POINT_GROUP = "uoro.backends"


def registered_backends() -> dict[str, EntryPoint]:
    """Return the entry points of the group ``uoro.backends`` by name; none is imported."""
    from importlib.metadata import entry_points

    return {entry.name: entry for entry in entry_points(group=ENTRY_POINT_GROUP)}


def install_command(entry: EntryPoint) -> str:
    """Return the command that installs the framework of a registered backend."""
    distribution = entry.dist.name if entry.dist is not None else entry.name
    target = f"uoro[{entry.name}]" if distribution == "uoro" else distribution
    return f"pip install '{target}'"


def load_backend(name: str, *, device: str | None = None) -> Backend:
    """Import a registered backend and return an instance.

    Args:
        name: Name of the backend, as listed by `registered_backends`; ``"autograd"``,
            ``"torch"`` and ``"jax"`` are bundled.
        device: Device of its arrays, as the framework spells devices; default: the framework's.

    Raises:
        UnknownNameError: If no backend has the name; the error suggests the nearest name.
        MissingFrameworkError: If the framework is not installed; the error names the extra.
        BrokenBackendError: If the entry point cannot be loaded for another reason.

    Example:
        >>> from uoro import load_backend
        >>> load_backend("autograd").name
        'autograd'
    """
    call = f"load_backend({spelled(name)})"
    entries = registered_backends()
    entry = require_known(call, "backend", name, entries)
    try:
        build = entry.load()
    except ModuleNotFoundError as error:
        raise MissingFrameworkError(
            f"{call}: the module '{error.name}' is not installed. "
            f"Try: {install_command(entries[name])}."
        ) from error
    except Exception as error:
        raise BrokenBackendError(
            f"{call}: the entry point '{entries[name].value}' cannot be loaded: "
            f"{type(error).__name__}: {error}. Report this to the authors of the backend."
        ) from error
    backend: Backend = build() if device is None else build(device=device)
    return backend
