"""The tasks and networks of the paper, as settings of jobs."""

from __future__ import annotations

from uoro.lab.jobs import JobSettings

ANBN: JobSettings = {
    "task": "anbn",
    "arguments": {"k": 1, "l": 32, "learning_rate": 1e-3, "decay": 0.03},
}
BRACKETS: JobSettings = {
    "task": "brackets",
    "arguments": {"s": 1, "k": 5, "a": 10, "learning_rate": 1e-3, "decay": 0.015},
}
TASKS = {setting["task"]: setting for setting in (ANBN, BRACKETS)}


def network(cell: str, units: int = 64) -> JobSettings:
    """Return the settings of a network with one layer."""
    return {"cell": cell, "units": units, "layers": 1}
