"""Every task by its name, with the paper's choices for it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from uoro.arguments import require_known
from uoro.errors import SettingError, UnknownNameError, spelled
from uoro.tasks.anbn import anbn
from uoro.tasks.brackets import distant_brackets
from uoro.tasks.copying import copying
from uoro.tasks.influence import influence_balancing
from uoro.tasks.recall import recall
from uoro.tasks.sensor import sensor
from uoro.tasks.symbols import Network
from uoro.tasks.table import table
from uoro.tasks.task import Task
from uoro.tasks.text import text

LEARNING_RATE = ("learning_rate", "decay")
"""Arguments of a task's function that belong to its optimizer."""


@dataclass(frozen=True)
class Entry:
    """A task of the catalogue; calling it builds the task.

    Attributes:
        factory: Function that builds the task.
        optimizer: Name of the paper's optimizer, ``"adam"`` or ``"sgd"``.
        schedule: Name of the paper's learning-rate schedule, as in `uoro.schedules`.
        estimators: Names of the estimators to compare on the task by default.
    """

    factory: Callable[..., Task]
    optimizer: str
    schedule: str
    estimators: tuple[str, ...]

    def __call__(self, *arguments: Any, **options: Any) -> Task:
        """Build the task."""
        return self.factory(*arguments, **options)

    @property
    def defaults(self) -> dict[str, Any]:
        """Default value of every argument of the factory."""
        parameters = inspect.signature(self.factory).parameters
        return {name: one.default for name, one in parameters.items()}

    @property
    def options(self) -> list[str]:
        """Names of the arguments that describe the task: neither its network nor its optimizer."""
        return [name for name in self.defaults if name not in ("network", *LEARNING_RATE)]

    @property
    def has_network(self) -> bool:
        """Whether the task takes a `Network`."""
        return "network" in self.defaults


_FEW = ("auto", "uoro", "tbptt:1", "tbptt:16,rolling")

TASKS: dict[str, Entry] = {
    "anbn": Entry(anbn, "adam", "inverse_sqrt", _FEW),
    "brackets": Entry(
        distant_brackets, "adam", "inverse_sqrt", ("auto", "uoro", "tbptt:16,rolling")
    ),
    "copy": Entry(copying, "adam", "inverse", _FEW),
    "influence-balancing": Entry(
        influence_balancing,
        "sgd",
        "inverse_sqrt",
        ("uoro", "rtrl", "tbptt:200", "tbptt:100", "tbptt:10"),
    ),
    "recall": Entry(
        recall, "adam", "constant", ("auto", "uoro", "tbptt:16,rolling", "tbptt:32,rolling", "rtrl")
    ),
    "sensor": Entry(sensor, "adam", "constant", _FEW),
    "table": Entry(table, "adam", "inverse_sqrt", ("auto", "uoro", "tbptt:16,rolling")),
    "text": Entry(text, "adam", "inverse_sqrt", _FEW),
}


def make_task(
    call: str, name: str, options: Mapping[str, Any], network: Network | None = None
) -> Task:
    """Build a task of the catalogue.

    Args:
        call: Call to name in errors.
        name: Name of the task.
        options: Arguments of the task's function, without the network.
        network: Network of a symbol task; ignored by a task that takes none.

    Raises:
        UnknownNameError: If there is no task or no option of a name; names the nearest.
        SettingError: If an option has a wrong type or is out of its range.
    """
    entry = require_known(call, "task", name, TASKS)
    for option in options:
        if option not in (*entry.options, *LEARNING_RATE):
            raise UnknownNameError(call, "option", option, entry.options)
    with_network = {"network": network} if entry.has_network else {}
    try:
        return entry.factory(**options, **with_network)
    except TypeError as error:
        raise SettingError(f"{call}: options {spelled(dict(options))}: {error}.") from error
