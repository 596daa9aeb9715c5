"""Estimators named the way people write them: ``uoro:rank=4``, ``tbptt:10,rolling``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from uoro.errors import SettingError, UnknownNameError, spelled
from uoro.estimator import Estimator
from uoro.estimators import RTRL, UORO, RollingTruncated, Truncated

NAMES = ("bptt", "rtrl", "tbptt", "uoro")


@dataclass(frozen=True)
class Choice:
    """An estimator and how the dynamics are to be unrolled for it.

    Attributes:
        name: As it was written.
        estimator: The estimator.
        span: How many items one update takes; ``None`` for the whole run.
    """

    name: str
    estimator: Estimator
    span: int | None


def split_estimators(written: Sequence[str]) -> list[str]:
    """Split lists at their commas, leaving options with the estimator they belong to.

    >>> split_estimators(["uoro:rank=4,memory=2,rtrl", "tbptt:10,rolling"])
    ['uoro:rank=4,memory=2', 'rtrl', 'tbptt:10,rolling']

    Raises:
        SettingError: If it is no list of strings; a string by itself is none.
    """
    if not isinstance(written, (list, tuple)) or not all(isinstance(x, str) for x in written):
        raise SettingError(
            f"split_estimators({spelled(written)}): wanted is a list of strings, such as "
            "['uoro,rtrl', 'tbptt:10,rolling']."
        )
    names: list[str] = []
    for word in (word.strip() for text in written for word in text.split(",")):
        is_option = word in ("rolling", "chunked") or ("=" in word and ":" not in word)
        if is_option and names:
            names[-1] += f",{word}"
        elif word:
            names.append(word)
    return names


def parse_estimator(written: str) -> Choice:
    """Read the name of an estimator.

    ``uoro``, ``uoro:rank=4``, ``uoro:rank=4,reduction=optimal``, ``uoro:scaling=rows``,
    ``uoro:memory=16``, ``uoro:law=gaussian``; ``rtrl``;
    ``tbptt:10`` or ``tbptt:10,chunked`` (the paper's kind, one update every 10 items),
    ``tbptt:10,rolling`` (an update at every item, through the last 10); ``bptt`` (one update
    for the whole run).

    Raises:
        UnknownNameError: If there is no such estimator; the nearest is named.
        SettingError: If an option is unknown, missing or out of range.
    """
    call = f"estimator {spelled(written)}"
    if not isinstance(written, str):
        raise UnknownNameError(call, "estimator", written, NAMES)
    name, colon, rest = written.partition(":")
    options = rest.split(",") if colon else []
    if name not in NAMES:
        raise UnknownNameError(call, "estimator", name, NAMES)
    if name == "uoro":
        return _parse_uoro(call, written, options)
    if name == "tbptt":
        return _parse_tbptt(call, written, options)
    if options:
        raise SettingError(f"{call}: '{name}' takes no options, got {', '.join(options)}.")
    return Choice(written, RTRL(), 1) if name == "rtrl" else Choice(written, Truncated(), None)


def _parse_uoro(call: str, written: str, options: list[str]) -> Choice:
    given = {"rank": "1", "memory": "1", "law": "signs", "reduction": "independent"}
    given["scaling"] = ""  # none
    seen: set[str] = set()
    for option in options:
        key, equals, value = option.partition("=")
        if key in seen:
            raise SettingError(f"{call}: '{key}' is given twice.")
        seen.add(key)
        if not equals or key not in given:
            raise SettingError(
                f"{call}: there is no option '{option}'. Wanted are rank=K, memory=T, law=LAW, "
                "reduction=optimal, scaling=rows."
            )
        given[key] = value
    estimator = UORO(
        rank=_count(call, "rank", given["rank"]),
        distribution=given["law"],  # type: ignore[arg-type]  # UORO checks it
        reduction=given["reduction"],  # type: ignore[arg-type]  # and this
        scaling=given["scaling"] or None,  # type: ignore[arg-type]  # and this
    )
    return Choice(written, estimator, _count(call, "memory", given["memory"]))


def _parse_tbptt(call: str, written: str, options: list[str]) -> Choice:
    kinds = [option for option in options if option in ("rolling", "chunked")]
    lengths = [option for option in options if option not in kinds]
    if len(lengths) != 1 or len(kinds) > 1:
        raise SettingError(
            f"{call}: wanted is one length, as in 'tbptt:10' (chunked) or 'tbptt:10,rolling'."
        )
    length = _count(call, "length", lengths[0])
    if kinds == ["rolling"]:
        return Choice(written, RollingTruncated(length), 1)
    return Choice(written, Truncated(), length)


def _count(call: str, what: str, value: str) -> int:
    try:
        count = int(value)
    except ValueError:
        count = 0
    if count < 1:
        raise SettingError(f"{call}: {what}: expected an integer >= 1, got '{value}'.")
    return count
