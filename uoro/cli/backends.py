"""``uoro backends``."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from uoro.cli.help import console
from uoro.errors import BrokenBackendError, MissingFrameworkError
from uoro.registry import install_command, load_backend, registered_backends


def backends() -> None:
    """List the registered backends: version, device, and how to install a missing one.

    Example: uoro backends
    """
    show_backends(console())


def show_backends(console: Console) -> None:
    """Print one row for each registered backend."""
    table = Table(title="Backends", title_justify="left")
    for heading in ("name", "installed", "version", "device", "module", "to install"):
        table.add_column(heading, overflow="fold")
    for name, entry in sorted(registered_backends().items()):
        try:
            device = load_backend(name).device
        except MissingFrameworkError:
            table.add_row(name, "no", "-", "-", entry.module, escape(install_command(entry)))
            continue
        except BrokenBackendError as error:
            table.add_row(name, "broken", "-", "-", entry.module, escape(str(error)))
            continue
        try:
            framework = version(name)
        except PackageNotFoundError:
            framework = entry.dist.version if entry.dist is not None else "?"
        table.add_row(name, "yes", framework, device, entry.module, "-")
    console.print(table)


def installed_backends() -> list[str]:
    """Return the names of the backends whose framework is installed, the bundled ones first."""
    installed = []
    for name in registered_backends():
        try:
            load_backend(name)
        except (MissingFrameworkError, BrokenBackendError):
            continue
        installed.append(name)
    order = ("autograd", "torch", "jax")
    return sorted(
        installed, key=lambda name: (order.index(name) if name in order else len(order), name)
    )
