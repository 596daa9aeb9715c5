"""``uoro train``."""

from __future__ import annotations

import signal
import sys
import tomllib
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from uoro.cli.flags import with_flags
from uoro.cli.help import FLAG, console, old_flag, renamed_flag
from uoro.cli.interrupt import deferred_signals
from uoro.cli.progress import show_end, watching
from uoro.cli.tables import table_of
from uoro.errors import SettingError
from uoro.training.config import SETTINGS, read_settings, renewed
from uoro.training.run import Run
from uoro.training.settings import Settings, field, merged

EXIT = {"done": 0, "failed": 1, "stopped": 3, "interrupted": 130}
TERMINATED = 143
TASK = field("task")[0].__metadata__[-1].description


@with_flags
def train(
    task: Annotated[str | None, typer.Argument(help=TASK)] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the run", show_default="runs/TASK-1, and so on")
    ] = None,
    resume: Annotated[
        Path | None, typer.Option(help="Folder of a run to resume, however it ended")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", metavar=FLAG, help="Resume with changed settings")
    ] = False,
    config: Annotated[
        Path | None, typer.Option(help="TOML file of settings; flags take precedence")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Any setting, as in options.k=2 or chunk=512; may be repeated",
        ),
    ] = None,
    rate: Annotated[float | None, old_flag("--rate")] = None,
    **settings: Any,
) -> None:
    """Train online on a stream, for as long as you like; a stopped run resumes bit-for-bit.

    The folder of a run holds its complete settings (config.toml), its metrics (metrics.jsonl), its
    last checkpoints, and at the end a figure (curve.png). However a run ended, --resume continues
    from the last checkpoint and computes the same numbers as an undisturbed run.

    Exit status: 0 the steps are done or the stream has ended; 1 the run failed (a number that is
    not finite, a stream that cannot be read, a last checkpoint that cannot be written); 2 the
    command cannot be run as given; 3 there was no input for --stall seconds; 130 Ctrl-C; 143 told
    to end. After 1, 3, 130 and 143 there is a checkpoint to resume from, if there were any steps.

    Example: uoro train anbn --steps 1000000 --out runs/anbn

    Example: uoro train text --file book.txt --model lstm --estimator uoro:rank=4

    Example: tail -c +1 -f log | uoro train text --file -

    Example: uoro train readings.csv --target temperature --horizon 12

    Example: uoro train --resume runs/anbn --steps 2000000
    """
    if resume is not None and out is not None:
        raise SettingError("train: expected --out or --resume, got both. A run keeps its folder.")
    given = {name.replace("__", "."): value for name, value in settings.items()}
    given["task"] = task
    given["monitors"] = split_monitors(given["monitors"])
    given["optimizer.learning_rate"] = renamed_flag(
        "--rate", "--learning-rate", rate, given["optimizer.learning_rate"]
    )
    name, given["task"], paths = table_of(task, given["options.paths"] or [])
    given["options.paths"] = paths or None
    unspecified = given["options.encoding"] is None and given["options.alphabet"] is None
    of_text = given["task"] != "table" and unspecified and resume is None
    if given["options.paths"] == ["-"] and of_text:
        given["options.encoding"] = "bytes"
    chosen = gather(config, resume, given, set_ or [])
    folder = resume or out or new_folder(name or (chosen.task if chosen is not None else "run"))
    sys.exit(run_training(console(), chosen, folder, resume=resume is not None, force=force))


def gather(
    config: Path | None, resume: Path | None, given: dict[str, Any], assignments: list[str]
) -> Settings | None:
    """Merge settings: those of the run, then those of a file, then flags, then ``--set``.

    Args:
        config: TOML file.
        resume: Folder of a run to resume.
        given: Settings by dotted names; ``None`` for what was not given.
        assignments: ``key=value``, the value as TOML spells it, or text.

    Returns:
        Settings; ``None`` for those of the resumed run, unchanged.
    """
    table: dict[str, Any] = {}
    if resume is not None and (resume / SETTINGS).exists():
        table = read_settings(resume / SETTINGS)
    if config is not None:
        table = merged(table, read_settings(config))
    over = [(name, value) for name, value in given.items() if value is not None]
    over += [_assignment(text) for text in assignments]
    if resume is not None and config is None and not over:
        return None
    for name, value in over:
        nested = value
        for part in reversed(name.split(".")):
            nested = {part: nested}
        table = merged(table, nested)
    return Settings.of(renewed(table), call="train")


def split_monitors(written: list[str] | None) -> list[str] | None:
    """Split lists at their commas; options stay with the monitor before them.

    >>> split_monitors(["pair,noise:replicas=4,every=10", "shadow"])
    ['pair', 'noise:replicas=4,every=10', 'shadow']
    """
    names: list[str] = []
    for word in (word.strip() for text in written or [] for word in text.split(",")):
        if "=" in word and ":" not in word and names:
            names[-1] += f",{word}"
        elif word:
            names.append(word)
    return names or None


def new_folder(task: str) -> Path:
    """Choose a folder for a run without one: ``runs/TASK-1``, and so on."""
    stem = Path(task.rpartition(":")[0]).stem.replace(".", "-") if ":" in task else task
    number = 1
    while Path("runs", f"{stem}-{number}").exists():
        number += 1
    return Path("runs", f"{stem}-{number}")


def run_training(
    console: Console, settings: Settings | None, folder: Path, *, resume: bool, force: bool
) -> int:
    """Train with live progress.

    Returns:
        Exit status.
    """
    run = Run(settings, folder, resume=resume, force=force)
    console.print(f"{run.title}, {run.settings.estimator}, {run.settings.backend}", markup=False)
    if run.chosen is not None:
        console.print(f"Estimator: {run.chosen.describe()}", markup=False, highlight=False)
    with (
        deferred_signals(signal.SIGINT, signal.SIGTERM) as caught,
        watching(console, run.settings.steps) as watch,
    ):
        ended = run.go(asked_to_stop=lambda: caught() is not None, watch=watch)
    show_end(console, run, ended)
    if ended.state == "interrupted" and caught() == signal.SIGTERM:
        return TERMINATED
    return EXIT[ended.state]


def _assignment(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise SettingError(f"train --set: expected KEY=VALUE, got {text}. Try options.k=2.")
    try:
        return name.strip(), tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return name.strip(), value.strip()
