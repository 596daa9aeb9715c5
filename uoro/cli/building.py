"""Tasks built from the options of a command."""

from __future__ import annotations

from typing import Any

from uoro.arguments import require_choice
from uoro.errors import SettingError, UnknownNameError
from uoro.tasks import TASKS, Network, Task, make_task

NETWORK = {"model": "cell", "units": "units", "layers": "layers"}
OPTIONS = {"file": "paths"}


def build_task(name: str, given: dict[str, Any], command: str = "compare") -> Task:
    """Build the task of a name from the options of a command.

    Args:
        name: Name of the task.
        given: Options that were given.
        command: Command to name in errors.

    Raises:
        UnknownNameError: If there is no such task; names the nearest.
        SettingError: If the task has no such option, or its value is out of range.
    """
    if name not in TASKS:
        raise UnknownNameError(f"{command} {name!r}", "task", name, TASKS)
    entry = TASKS[name]
    network: dict[str, Any] = {}
    options: dict[str, Any] = {}
    for option, value in given.items():
        if entry.has_network and option in NETWORK:
            network[NETWORK[option]] = value
        elif OPTIONS.get(option, option) in entry.defaults:
            options[OPTIONS.get(option, option)] = value
        else:
            raise SettingError(f"{command} {name}: it has no option --{option}. Leave it out.")
    for option, choices in (("encoding", ("utf-8", "bytes")), ("malformed", ("stop", "skip"))):
        if option in options:
            require_choice(f"{command} {name}", f"--{option}", options[option], choices)
    if "units" in options and "minus" not in options:
        # In the paper's proportion, if only the number of units was given.
        options["minus"] = (13 * options["units"] + 11) // 23
    return make_task(f"{command} {name}", name, options, Network(**network))
