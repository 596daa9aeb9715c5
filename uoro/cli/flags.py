"""The flags of ``uoro train``: type, help and default of most are those of the settings."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from types import UnionType
from typing import Annotated, Any, Literal, NamedTuple, TypeVar, Union, get_args, get_origin

import typer

from uoro.cli.help import FLAG
from uoro.training.settings import field

Function = TypeVar("Function", bound=Callable[..., None])


class Flag(NamedTuple):
    """A flag that sets a setting.

    Attributes:
        name: Flag as it is typed.
        kind: Type of its value.
        help: One phrase, with the unit.
        default: Default in words, or ``False`` for none to show.
        value: What its value is called in the help; ``None`` for its type.
    """

    name: str
    kind: Any
    help: str
    default: str | bool = False
    value: str | None = None


def _plain(kind: Any) -> Any:
    """Return the type under a description, bounds, and None."""
    origin = get_origin(kind)
    if origin in (Annotated, Union, UnionType):
        return _plain(get_args(kind)[0])
    return str if origin is Literal else kind


def of_setting(setting: str, flag: str | None = None) -> Flag:
    """Build the flag of a setting from its description.

    Args:
        setting: Dotted name of the setting.
        flag: Flag, where its name is not that of the setting.
    """
    kind, default = field(setting)
    about = kind.__metadata__[-1]
    plain = _plain(kind)
    shown: str | bool = about.extra["default"] or False
    if not shown and type(default) in (int, float, str):
        shown = str(default)
    value = {bool: FLAG, list[str]: "NAMES"}.get(plain)
    return Flag(flag or f"--{setting.replace('_', '-')}", plain, about.description, shown, value)


FLAGS: dict[str, Flag] = {
    "steps": of_setting("steps"),
    "backend": of_setting("backend"),
    "device": of_setting("device"),
    "dtype": of_setting("dtype"),
    "estimator": of_setting("estimator"),
    "optimizer.name": Flag(
        "--optimizer", str, "adam, sgd, optax.NAME, torch.NAME, or package.module:function",
        "the task's",
    ),
    "optimizer.learning_rate": Flag(
        "--learning-rate", float, "Initial learning rate", "the task's, or 0.001"
    ),
    "optimizer.schedule": Flag(
        "--schedule", str, "Learning-rate schedule: constant, inverse or inverse_sqrt", "the task's"
    ),
    "optimizer.decay": Flag(
        "--decay", float, "Decay α of the schedule, as in γ/(1+αt)", "the task's"
    ),
    "seed": of_setting("seed"),
    "network.cell": of_setting("network.cell", "--model"),
    "network.units": of_setting("network.units", "--units"),
    "network.layers": of_setting("network.layers", "--layers"),
    "options.paths": Flag(
        "--file", list[str], "text, table: file, or - for standard input; may be repeated",
        "Shakespeare's plays", "PATH",
    ),
    "options.target": Flag(
        "--target", str, "table: columns to predict, separated by commas", "the only numbers",
        "NAMES",
    ),
    "options.horizon": Flag("--horizon", int, "table: number of rows ahead to predict", "1"),
    "options.inputs": Flag(
        "--inputs", str, "table: columns to read beside the targets",
        "all of numbers or few words", "NAMES",
    ),
    "options.drop": Flag("--drop", str, "table: columns to leave out", value="NAMES"),
    "options.time": Flag(
        "--time", str, "table: column of times", "the first of dates", "NAME"
    ),
    "options.encoding": Flag(
        "--encoding", str, "text: utf-8 or bytes", "utf-8; bytes for standard input"
    ),
    "options.alphabet": Flag(
        "--alphabet", str, "text: all characters, or ascii, or bytes", "what the files hold"
    ),
    "options.follow": Flag(
        "--follow", bool, "text, table: wait for more at the end of the file, like tail -f",
        value=FLAG,
    ),
    "options.laps": Flag(
        "--laps", int, "text, table: number of times to read the files", "no end; table: once"
    ),
    "options.malformed": Flag(
        "--malformed", str,
        "text: stop at a character outside the alphabet, or skip it; table: at a bad cell", "stop",
    ),
    "options.resume": Flag(
        "--stdin", str, "text, table, --resume: standard input restarts at its first byte, or "
        "continues after the last byte read", "restarts",
    ),
    "stall": of_setting("stall"),
    "on_nonfinite": of_setting("on_nonfinite"),
    "noise": of_setting("noise"),
    "monitors": of_setting("monitors"),
    "checkpoints.every": of_setting("checkpoints.every", "--checkpoint-every"),
    "checkpoints.keep": of_setting("checkpoints.keep", "--keep"),
    "metrics.every": of_setting("metrics.every", "--log-every"),
    "metrics.tensorboard": of_setting("metrics.tensorboard", "--tensorboard"),
}  # fmt: skip


_OPTIONS = {name.partition(".")[2]: name for name in FLAGS if name.startswith("options.")}
_ARGUMENT = re.compile(rf"\b({'|'.join(_OPTIONS)})=('[^']*'|-?\w+)")
_OPENED = re.compile(r"""\b(?:Text\.open|table)\(('[^']*'|"[^"]*")((?:, [^)]*)?)\)""")
_READ = re.compile(r"\b(Text|Pipe|table)\.(stream|seek)\([^)]*\)")


def in_flags(message: str) -> str:
    """Return the message of an error with the calls and arguments of a task spelled as flags.

    >>> in_flags("Read it as bytes: encoding='bytes'; or wait: follow=True.")
    'Read it as bytes: --encoding bytes; or wait: --follow.'
    >>> in_flags("Text.open('a.txt'): expected a file that can be read")
    "--file 'a.txt': expected a file that can be read"
    """

    def spell(found: re.Match[str]) -> str:
        flag, value = FLAGS[_OPTIONS[found[1]]].name, found[2].strip("'")
        return flag if value == "True" else f"{flag} {value}"

    return _ARGUMENT.sub(spell, _READ.sub("--file", _OPENED.sub(r"--file \1\2", message)))


def with_flags(command: Function) -> Function:
    """Add every flag of `FLAGS` to a command that takes ``**settings``.

    The command receives the settings by their dotted names, with ``__`` for a dot.
    """
    signature = inspect.signature(command, eval_str=True)
    parameters = [one for one in signature.parameters.values() if one.kind is not one.VAR_KEYWORD]
    for setting, flag in FLAGS.items():
        option = typer.Option(
            None, flag.name, help=flag.help, show_default=flag.default, metavar=flag.value
        )
        parameters.append(
            inspect.Parameter(
                setting.replace(".", "__"),
                inspect.Parameter.KEYWORD_ONLY,
                default=option,
                annotation=flag.kind | None,
            )
        )
    command.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]  # typer reads it
    command.__annotations__ = {one.name: one.annotation for one in parameters}
    return command
