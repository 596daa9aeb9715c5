"""Everything that determines a run, as a TOML file says it."""

from __future__ import annotations

import os
import tomllib
import types
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import tomli_w

from uoro.arguments import require_seed
from uoro.errors import CheckpointError, SettingError, UnknownNameError, UOROError, spelled
from uoro.files.atomic import sync_folder, write_atomically
from uoro.learning.learner import OnNonfinite
from uoro.tasks import Network

SETTINGS = "config.toml"
FREE = ("steps", "stall", "checkpoints", "metrics", "options.resume")
"""What may be changed when a run goes on: how long it is, and what is written of it."""

_DEEPEST = 20

Section = TypeVar("Section")


@dataclass(frozen=True)
class CheckpointSettings:
    """When checkpoints are written, and how many are kept.

    Attributes:
        every: Steps from one to the next.
        keep: How many of the last ones are kept.
    """

    every: int = 100_000
    keep: int = 3


@dataclass(frozen=True)
class MetricsSettings:
    """What is written down along the way.

    Attributes:
        every: Steps from one line to the next.
        recent: Over how many of the last items the recent loss is taken, about.
        tensorboard: Whether to write for TensorBoard too.
    """

    every: int = 1_000
    recent: int = 10_000
    tensorboard: bool = False


@dataclass(frozen=True)
class Settings:
    """Everything that determines a run.

    Attributes:
        task: ``"anbn"``, ``"brackets"``, ``"copy"``, ``"influence-balancing"``, ``"text"``, or
            ``"package.module:factory"`` of the user's.
        options: What the task is called with; see `uoro.tasks`.
        network: The network of a built-in task.
        backend: Its name.
        device: Where to run; the framework's default if empty.
        dtype: ``"float32"``, ``"float64"``, or ``"as made"``. If not given, float32 for a built-in
            task, and as made for what a factory of the user's makes.
        estimator: As on the command line: ``"uoro:rank=4"``, ``"tbptt:16"``, ….
        optimizer: ``name``: ``"adam"``, ``"sgd"``, ``"optax.NAME"``, ``"torch.NAME"``, or
            ``"package.module:function"``; and what to call it with. What is left out is the task's.
        noise: ``"own"``, the backend's generator; or ``"shared"``, NumPy's, which draws the same
            on every backend.
        seed: Of the initial numbers, of the stream and of every draw.
        steps: How many updates to make; endless, or as long as the stream, if not given.
        chunk: How many steps run as one compiled loop, at most.
        on_nonfinite: ``"stop"``, ``"skip"`` or ``"reset"``; see `uoro.Learner`.
        stall: After how many seconds without input to stop; never if not given.
        monitors: Names, as in `uoro.monitors`.
        checkpoints: When to write them.
        metrics: What to write down.
    """

    task: str
    options: dict[str, Any] = field(default_factory=dict)
    network: Network = field(default_factory=Network)
    backend: str = "jax"
    device: str = ""
    dtype: Literal["float32", "float64", "as made"] | None = None
    estimator: str = "uoro"
    optimizer: dict[str, Any] = field(default_factory=dict)
    noise: Literal["own", "shared"] = "own"
    seed: int = 0
    steps: int | None = None
    chunk: int = 256
    on_nonfinite: OnNonfinite = "stop"
    stall: float | None = None
    monitors: list[str] = field(default_factory=list)
    checkpoints: CheckpointSettings = CheckpointSettings()
    metrics: MetricsSettings = MetricsSettings()

    def __post_init__(self) -> None:
        require_seed(f"train(seed={spelled(self.seed)})", self.seed)
        for name in ("steps", "chunk", "checkpoints.every", "checkpoints.keep", "metrics.every",
                     "metrics.recent", "network.units", "network.layers"):  # fmt: skip
            value: Any = self
            for part in name.split("."):
                value = getattr(value, part)
            if value is not None and value < 1:
                raise SettingError(f"train({name}={value}): it must be at least 1.")
        if self.stall is not None and not self.stall > 0:
            raise SettingError(f"train(stall={self.stall}): it must be a positive number.")

    @classmethod
    def of(cls, table: dict[str, Any], *, call: str = "train(settings)") -> Settings:
        """Read settings from nested dictionaries, as TOML gives them.

        Args:
            table: What is left out takes its default.
            call: What was called, for the error.

        Raises:
            UnknownNameError: If there is no setting of a name; the nearest is named.
            SettingError: If a value is of another type or out of range, or the task is missing.
        """
        _require_writable(call, table)
        if not isinstance(table, dict) or "task" not in table:
            raise SettingError(f"{call}: there is no task. Give one, such as task = 'anbn'.")
        return _section(call, cls, table, "")

    def table(self) -> dict[str, Any]:
        """Give all settings as nested dictionaries; what was not given is left out."""
        return _without_none(asdict(self))


def read_settings(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a TOML file of settings.

    Raises:
        SettingError: If it cannot be read, or is no TOML.
    """
    call = f"read_settings({os.fspath(path)!r})"
    try:
        table = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        _require_writable(call, table)
        return table
    except UOROError:
        raise
    except OSError as error:
        raise SettingError(f"{call}: it cannot be read: {error.strerror or error}.") from error
    except (ValueError, RecursionError) as error:
        raise SettingError(f"{call}: it is no TOML: {error}.") from error


def write_settings(folder: Path, settings: Settings) -> None:
    """Write the complete settings into a run's folder, whole or not at all.

    Raises:
        CheckpointError: If they cannot be written.
    """
    try:
        written = tomli_w.dumps(settings.table()).encode()
        write_atomically(folder / SETTINGS, [written])
        sync_folder(folder)
    except OSError as error:
        raise CheckpointError(
            f"train: {folder / SETTINGS} cannot be written: {error.strerror or error}. Make room, "
            "or give another folder."
        ) from error


def changes(before: Settings, after: Settings) -> list[str]:
    """Name the settings that determine what a run computes and differ, with both values."""
    one, two = flat(before.table()), flat(after.table())
    return [
        f"{name}: {one.get(name, 'not given')!r} before, {two.get(name, 'not given')!r} now"
        for name in sorted(one.keys() | two.keys())
        if one.get(name) != two.get(name)
        and name not in FREE
        and name.partition(".")[0] not in FREE
    ]


def flat(table: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """List nested settings under dotted names."""
    found: dict[str, Any] = {}
    for name, value in table.items():
        if isinstance(value, dict):
            found |= flat(value, f"{prefix}{name}.")
        else:
            found[prefix + name] = value
    return found


def merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Lay nested settings over others; tables are merged, everything else is replaced."""
    result = dict(base)
    for name, value in over.items():
        below = result.get(name)
        both = isinstance(value, dict) and isinstance(below, dict)
        result[name] = merged(below, value) if both else value  # type: ignore[arg-type]  # both are
    return result


def _section(call: str, cls: type[Section], table: dict[str, Any], prefix: str) -> Section:
    known = {one.name: one for one in fields(cls)}  # type: ignore[arg-type]  # a dataclass
    kinds = get_type_hints(cls)
    values = {}
    for name, value in table.items():
        if name not in known:
            raise UnknownNameError(call, "setting", prefix + name, [prefix + key for key in known])
        values[name] = _value(call, kinds[name], value, prefix + name)
    return cls(**values)


def _value(call: str, kind: Any, value: Any, name: str) -> Any:
    if is_dataclass(kind):
        if not isinstance(value, dict):
            raise SettingError(f"{call}: {name} = {spelled(value)}: wanted is a table.")
        return _section(call, kind, value, f"{name}.")  # type: ignore[arg-type]  # a class
    if get_origin(kind) in (Union, types.UnionType) and type(None) in get_args(kind):
        if value is None:
            return None
        return _value(call, Union[tuple(set(get_args(kind)) - {type(None)})], value, name)  # noqa: UP007  # made of what is left
    if get_origin(kind) is Literal:
        if value not in get_args(kind) or not isinstance(value, str):
            wanted = ", ".join(map(repr, get_args(kind)))
            raise SettingError(f"{call}: {name} = {spelled(value)}: wanted is one of {wanted}.")
        return value
    kinds = get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)
    plain = tuple(get_origin(one) or one for one in kinds)
    if float in plain and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    right = isinstance(value, plain) and (bool in plain or not isinstance(value, bool))
    if right and isinstance(value, list):
        right = all(isinstance(entry, str) for entry in value)
    if not right:
        words = {int: "an integer", float: "a number", str: "text", bool: "true or false",
                 list: "a list of texts", dict: "a table"}  # fmt: skip
        wanted = " or ".join(words[one] for one in plain if one in words)
        raise SettingError(f"{call}: {name} = {spelled(value)}: wanted is {wanted}.")
    return value


def _require_writable(call: str, table: Any) -> None:
    """Refuse what could not be written down again, in TOML and in JSON."""
    waiting: list[tuple[str, Any]] = [("", table)]
    while waiting:
        name, value = waiting.pop()
        if name.count(".") > _DEEPEST:
            raise SettingError(f"{call}: {name[:60]}…: that is nested too deep.")
        if isinstance(value, dict):
            waiting += [(f"{name}.{key}".lstrip("."), item) for key, item in value.items()]
            good = all(isinstance(key, str) and _is_text(key) for key in value)
        elif isinstance(value, (list, tuple)):
            waiting += [(f"{name}.{number}", item) for number, item in enumerate(value)]
            good = True
        else:
            good = value is None or isinstance(value, (bool, int, float)) or _is_text(value)
        if not good:
            raise SettingError(
                f"{call}: {name} = {spelled(value)}: wanted are numbers, text, true or false, and "
                "lists and tables of them."
            )


def _is_text(value: Any) -> bool:
    try:
        return isinstance(value, str) and bool(value.encode() or True)
    except UnicodeEncodeError:
        return False


def _without_none(table: dict[str, Any]) -> dict[str, Any]:
    return {
        name: _without_none(value) if isinstance(value, dict) else value
        for name, value in table.items()
        if value is not None
    }
