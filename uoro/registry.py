"""Backends by name: which are registered, and how one is loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from uoro.arguments import require_known
from uoro.backend import Backend
from uoro.errors import BrokenBackendError, MissingFrameworkError, spelled

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

ENTRY_POINT_GROUP = "uoro.backends"


def registered_backends() -> dict[str, EntryPoint]:
    """Find the entry points of the group ``uoro.backends`` by name, importing none of them."""
    from importlib.metadata import entry_points

    return {entry.name: entry for entry in entry_points(group=ENTRY_POINT_GROUP)}


def install_command(entry: EntryPoint) -> str:
    """Spell the command that installs the framework a registered backend needs."""
    distribution = entry.dist.name if entry.dist is not None else entry.name
    target = f"uoro[{entry.name}]" if distribution == "uoro" else distribution
    return f"pip install '{target}'"


def load_backend(name: str, *, device: str | None = None) -> Backend:
    """Import and make the backend registered under ``name``.

    Args:
        name: As listed by `registered_backends`; bundled are ``autograd``, ``torch``, ``jax``.
        device: Where its arrays shall live; the framework's default if not given.

    Raises:
        UnknownNameError: If no backend has that name; the nearest one is named.
        MissingFrameworkError: If its framework is not installed; the extra is named.
        BrokenBackendError: If its entry point cannot be loaded for another reason.

    Example:
        >>> from uoro import load_backend
        >>> load_backend("autograd").name
        'autograd'
    """
    call = f"load_backend({spelled(name)})"
    entries = registered_backends()
    entry = require_known(call, "backend", name, entries)
    try:
        make = entry.load()
    except ModuleNotFoundError as error:
        raise MissingFrameworkError(
            f"{call}: the module '{error.name}' is not installed. "
            f"Try: {install_command(entries[name])}."
        ) from error
    except Exception as error:
        raise BrokenBackendError(
            f"{call}: its entry point '{entries[name].value}' cannot be loaded: "
            f"{type(error).__name__}: {error}. That is for the authors of the backend to mend."
        ) from error
    backend: Backend = make() if device is None else make(device=device)
    return backend
