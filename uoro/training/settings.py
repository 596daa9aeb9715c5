"""Everything that determines a run, as a TOML file holds it."""

from __future__ import annotations

import re
import types
from typing import Annotated, Any, Literal, TypeAlias, Union, get_args, get_origin, get_type_hints

from msgspec import Meta, Struct, ValidationError, convert, to_builtins

from uoro.errors import SettingError, UnknownNameError, spelled
from uoro.learning.nonfinite import OnNonfinite
from uoro.tasks import Network

FREE = ("steps", "stall", "checkpoints", "metrics", "options.resume")
"""Settings that a resumed run may change: its length, and what is written about it."""

_DEEPEST = 20

Count: TypeAlias = Annotated[int, Meta(ge=1)]
Seed: TypeAlias = Annotated[int, Meta(ge=0, le=2**63 - 1)]  # what every framework takes
Seconds: TypeAlias = Annotated[float, Meta(gt=0)]


def about(description: str, default: str | None = None) -> Meta:
    """Describe a setting, for its readers and for the help of its flag.

    Args:
        description: One phrase, with the unit.
        default: Default in words, where the field's own default is ``None`` or empty.
    """
    return Meta(description=description, extra={"default": default})


class Section(Struct, frozen=True, kw_only=True):
    """Table of settings; `Settings.of` checks its values."""


class NetworkSettings(Section, frozen=True, kw_only=True):
    """Network of a built-in task."""

    cell: Annotated[str, about("Cell of a layer: rnn, gru, lstm, lru, rtu, mingru or elstm")] = (
        "gru"
    )
    units: Annotated[Count, about("Units of a layer")] = 64
    layers: Annotated[Count, about("Number of layers")] = 1

    def network(self) -> Network:
        """Return the network that the table describes.

        Raises:
            UnknownNameError: If there is no such cell.
        """
        return Network(self.cell, self.units, self.layers)


class CheckpointSettings(Section, frozen=True, kw_only=True):
    """When checkpoints are written, and how many are kept."""

    every: Annotated[Count, about("Steps between two checkpoints")] = 100_000
    keep: Annotated[Count, about("Number of newest checkpoints to keep")] = 3


class MetricsSettings(Section, frozen=True, kw_only=True):
    """What is logged during a run."""

    every: Annotated[Count, about("Steps between two lines of metrics")] = 1_000
    recent: Annotated[Count, about("Items, about, that the recent loss averages over")] = 10_000
    tensorboard: Annotated[bool, about("Write metrics for TensorBoard too")] = False


class Settings(Section, frozen=True, kw_only=True):
    """Everything that determines a run; see the annotation of each field."""

    task: Annotated[
        str,
        about(
            "anbn, brackets, copy, influence-balancing, table, text, or package.module:factory, a "
            "function that returns dynamics, params, state and stream"
        ),
    ]
    options: Annotated[dict[str, Any], about("Arguments of the task; see uoro.tasks")] = {}
    network: NetworkSettings = NetworkSettings()
    backend: Annotated[str, about("Backend: jax, torch, autograd, or another one")] = "jax"
    device: Annotated[str, about("Device, such as cpu or cuda", "the framework's")] = ""
    dtype: Annotated[
        Literal["float32", "float64", "as made"] | None,
        about("float32, float64, or 'as made', what a factory returned", "float32; as made"),
    ] = None
    estimator: Annotated[
        str, about("Estimator: auto (one that fits the model), kron:2, uoro, joint:4, rtrl, …")
    ] = "auto"
    optimizer: Annotated[
        dict[str, Any], about("name of an optimizer, and its arguments", "the task's")
    ] = {}
    noise: Annotated[
        Literal["own", "shared"],
        about("Generator of the signs: own, the backend's; or shared, alike on every backend"),
    ] = "own"
    seed: Annotated[Seed, about("Seed of initial parameters, stream and signs")] = 0
    steps: Annotated[Count | None, about("Number of updates", "until the stream ends")] = None
    chunk: Annotated[Count, about("Largest number of steps in one compiled loop")] = 256
    on_nonfinite: Annotated[
        OnNonfinite, about("Answer to a loss or gradient that is not finite: stop, skip or reset")
    ] = "stop"
    stall: Annotated[
        Seconds | None, about("Seconds without input after which the run ends", "never")
    ] = None
    monitors: Annotated[
        list[str],
        about("pair, radius, noise:replicas=4, shadow:window=64, …, separated by commas", "none"),
    ] = []
    checkpoints: CheckpointSettings = CheckpointSettings()
    metrics: MetricsSettings = MetricsSettings()

    @classmethod
    def of(cls, table: dict[str, Any], *, call: str = "train(settings)") -> Settings:
        """Build settings from nested dictionaries, as TOML gives them.

        Args:
            table: Settings; missing ones take their defaults.
            call: Call to name in errors.

        Raises:
            UnknownNameError: If there is no setting of a name; names the nearest.
            SettingError: If a value has a wrong type or is out of its range, or the task is
                missing.
        """
        require_writable(call, table)
        if not isinstance(table, dict) or "task" not in table:
            raise SettingError(f"{call}: expected a task, got none. Try task = 'anbn'.")
        _require_known(call, cls, table)
        try:
            return convert(table, cls)
        except ValidationError as error:
            raise _refusal(call, table, error) from error

    def table(self) -> dict[str, Any]:
        """Return all settings as nested dictionaries, without those that are ``None``."""
        return _without_none(to_builtins(self))


def changes(before: Settings, after: Settings) -> list[str]:
    """Return the settings that determine what a run computes and differ, with both values."""
    one, two = flat(before.table()), flat(after.table())
    return [
        f"{name}: {one.get(name, 'not given')!r} before, {two.get(name, 'not given')!r} now"
        for name in sorted(one.keys() | two.keys())
        if one.get(name) != two.get(name)
        and name not in FREE
        and name.partition(".")[0] not in FREE
    ]


def flat(table: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings under dotted names."""
    found: dict[str, Any] = {}
    for name, value in table.items():
        if isinstance(value, dict):
            found |= flat(value, f"{prefix}{name}.")
        else:
            found[prefix + name] = value
    return found


def merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Merge two tables of settings: tables key by key, everything else replaced by the second."""
    result = dict(base)
    for name, value in over.items():
        below = result.get(name)
        both = isinstance(value, dict) and isinstance(below, dict)
        result[name] = merged(below, value) if both else value  # type: ignore[arg-type]  # both are
    return result


def require_writable(call: str, table: Any) -> None:
    """Refuse a table that TOML and JSON cannot both hold.

    Raises:
        SettingError: If a value is neither number, text, true or false, nor a list or a table of
            those, or is nested too deep.
    """
    waiting: list[tuple[str, Any]] = [("", table)]
    while waiting:
        name, value = waiting.pop()
        if name.count(".") > _DEEPEST:
            raise SettingError(
                f"{call}: {name[:60]}…: expected at most {_DEEPEST} levels of tables, got more."
            )
        good = value is None or isinstance(value, (bool, int, float, list, tuple))
        if isinstance(value, dict):
            waiting += [(f"{name}.{key}".lstrip("."), item) for key, item in value.items()]
            good = all(_is_text(key) for key in value)
        elif isinstance(value, (list, tuple)):
            waiting += [(f"{name}.{number}", item) for number, item in enumerate(value)]
        if not (good or _is_text(value)):
            raise SettingError(
                f"{call}: {name}: expected numbers, text, true or false, or lists and tables of "
                f"those, got {spelled(value)}."
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


def _require_known(call: str, section: type[Section], table: Any, prefix: str = "") -> None:
    kinds = get_type_hints(section)
    for name, value in table.items():
        if name not in kinds:
            raise UnknownNameError(call, "setting", prefix + name, [prefix + one for one in kinds])
        if _is_section(kinds[name]) and isinstance(value, dict):
            _require_known(call, kinds[name], value, f"{prefix}{name}.")


def field(name: str) -> tuple[Any, Any]:
    """Return type and default of a setting.

    Args:
        name: Dotted name, such as ``"network.units"``.
    """
    section: Any = Settings
    *path, last = name.split(".")
    for part in path:
        section = get_type_hints(section)[part]
    return get_type_hints(section, include_extras=True)[last], _defaults(section).get(last)


def _defaults(section: type[Section]) -> dict[str, Any]:
    names, defaults = section.__struct_fields__, section.__struct_defaults__
    return dict(zip(names[len(names) - len(defaults) :], defaults, strict=True))


def _refusal(call: str, table: Any, error: ValidationError) -> SettingError:
    """Build the error for a value, which msgspec names by its path: ``$.network.units``."""
    path = re.findall(r"\w+", str(error).rpartition("$.")[2].partition("[")[0])
    for name in path:
        table = table[name]
    place = ".".join(path)
    return SettingError(
        f"{call}: {place}: expected {_words(field(place)[0])}, got {spelled(table)}."
    )


def _words(kind: Any) -> str:
    """Describe a type to a user."""
    origin, (inner, *more) = get_origin(kind), get_args(kind) or (None,)
    if origin in (Union, types.UnionType):
        return _words(inner)  # The other one is None, for what is not given.
    if origin is Literal:
        return f"one of {', '.join(map(repr, get_args(kind)))}"
    if origin is Annotated:
        bounds = [
            f"{sign} {bound}"
            for meta in more
            for sign, bound in ((">=", meta.ge), (">", meta.gt), ("<=", meta.le))
            if bound is not None
        ]
        return f"{_words(inner)} {' and '.join(bounds)}".rstrip()
    names = {int: "an integer", float: "a number", str: "text", bool: "true or false",
             list: "a list of texts"}  # fmt: skip
    return names.get(origin or kind, "a table")


def _is_section(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Section)
