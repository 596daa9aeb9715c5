"""Every task by its name."""

from __future__ import annotations

from collections.abc import Callable

from uoro.tasks.anbn import anbn
from uoro.tasks.brackets import distant_brackets
from uoro.tasks.copying import copying
from uoro.tasks.influence import influence_balancing
from uoro.tasks.task import Task
from uoro.tasks.text import text

TASKS: dict[str, Callable[..., Task]] = {
    "anbn": anbn,
    "brackets": distant_brackets,
    "copy": copying,
    "influence-balancing": influence_balancing,
    "text": text,
}
