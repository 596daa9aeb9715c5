"""Estimators by name, as people write them: ``uoro:rank=4``, ``joint:4``, ``tbptt:10,rolling``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from uoro.arguments import require_choice
from uoro.errors import SettingError, UnknownNameError, spelled
from uoro.estimators.auto import Auto
from uoro.estimators.block_rtrl import BlockRTRL
from uoro.estimators.joint import JointUORO
from uoro.estimators.kronecker import KroneckerSum
from uoro.estimators.rolling import RollingTruncated
from uoro.estimators.rtrl import RTRL
from uoro.estimators.snap import SnAp
from uoro.estimators.truncated import Truncated
from uoro.estimators.uoro import UORO

NAMES = ("auto", "block", "bptt", "joint", "kron", "rtrl", "snap", "tbptt", "uoro")
PLAIN: dict[str, tuple[Any, int | None]] = {
    "auto": (Auto(), 1),
    "block": (BlockRTRL(), 1),
    "bptt": (Truncated(), None),
    "rtrl": (RTRL(), 1),
    "snap": (SnAp(), 1),
}
"""Estimators without options, and the number of items of an update."""
FORMER_OPTIONS = {"law": "distribution"}
"""Options under the names they had before; they are accepted without a warning."""
PAIRS = {"scaling": "", "baseline": "", "probes": "1"}
"""Options of all estimators with pairs, with their defaults."""


@dataclass(frozen=True)
class Choice:
    """An estimator, and how the dynamics are to be unrolled for it.

    Attributes:
        name: The name as written.
        estimator: The estimator, or an `Auto`.
        span: Number of items that one update consumes; ``None`` for the whole run.
    """

    name: str
    estimator: Any
    span: int | None


def split_estimators(written: Sequence[str]) -> list[str]:
    """Split comma-separated lists of names; options stay with the estimator they belong to.

    >>> split_estimators(["uoro:rank=4,memory=2,rtrl", "tbptt:10,rolling"])
    ['uoro:rank=4,memory=2', 'rtrl', 'tbptt:10,rolling']

    Raises:
        SettingError: If ``written`` is not a list of strings; a single string is none.
    """
    if not isinstance(written, (list, tuple)) or not all(isinstance(x, str) for x in written):
        raise SettingError(
            "split_estimators(...): expected a list of strings, such as "
            f"['uoro,rtrl', 'tbptt:10,rolling'], got {spelled(written)}."
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
    """Return the estimator of a name.

    - ``uoro``, with any of ``rank=K``, ``memory=T``, ``distribution=NAME``, ``scaling=rows``,
      ``baseline=diagonal`` and ``probes=P``: ``uoro:rank=4,memory=16``;
    - ``joint:K``, with ``memory=T``, ``scaling=rows``, ``baseline=diagonal`` and ``probes=P``:
      ``joint:4,scaling=rows``;
    - ``kron:R``, of rank R; ``kron`` is ``kron:2``. With ``rest=exact``, ``rest=uoro`` or
      ``rest=refuse`` for params without structure: ``kron:3,rest=uoro``; with ``group=yes``
      leaves that share D have one sum of terms;
    - ``auto``, one that fits the model, chosen at its first item;
    - ``rtrl``; ``block``, exact where units do not mix; ``snap``, the biased SnAp-1;
    - ``tbptt:T``, chunked as in the paper: an update every T items; ``tbptt:T,rolling``: an update
      at every item, through the last T;
    - ``bptt``: an update for the whole run.

    The former ``uoro:law=NAME`` and ``uoro:rank=K,reduction=optimal`` are accepted.

    Raises:
        UnknownNameError: If there is no such estimator; the error suggests the nearest.
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
    if name == "joint":
        return _parse_joint(call, written, options)
    if name == "kron":
        return _parse_kron(call, written, options)
    if name == "tbptt":
        return _parse_tbptt(call, written, options)
    if options:
        raise SettingError(f"{call}: expected '{name}' alone, got options {', '.join(options)}.")
    return Choice(written, *PLAIN[name])


def _parse_uoro(call: str, written: str, options: list[str]) -> Choice:
    usual = {"rank": "1", "memory": "1", "distribution": "signs", **PAIRS}
    given = _read_options(call, options, {**usual, "reduction": "independent"}, list(usual))
    rank, span = (_count(call, key, given[key]) for key in ("rank", "memory"))
    options_of_pairs = _of_pairs(call, given)
    if given["reduction"] == "optimal" and given["distribution"] == "signs":
        return Choice(written, JointUORO(rank, **options_of_pairs), span)
    if given["reduction"] != "independent":
        raise SettingError(
            f"{call}: expected reduction=optimal, of signs, got reduction={given['reduction']} "
            f"and distribution={given['distribution']}. Try 'joint:{rank}'."
        )
    estimator = UORO(
        rank,
        distribution=given["distribution"],  # type: ignore[arg-type]  # UORO checks it
        **options_of_pairs,
    )
    return Choice(written, estimator, span)


def _parse_joint(call: str, written: str, options: list[str]) -> Choice:
    ranks = [option for option in options if "=" not in option]
    if len(ranks) != 1:
        raise SettingError(f"{call}: expected one rank, as in 'joint:4', got {len(ranks)}.")
    usual = {"memory": "1", **PAIRS}
    given = _read_options(call, [each for each in options if "=" in each], usual, list(usual))
    estimator = JointUORO(_count(call, "rank", ranks[0]), **_of_pairs(call, given))
    return Choice(written, estimator, _count(call, "memory", given["memory"]))


def _of_pairs(call: str, given: dict[str, str]) -> dict[str, Any]:
    """Return the settings that all estimators with pairs share; they check them."""
    return {
        "scaling": given["scaling"] or None,
        "baseline": given["baseline"] or None,
        "probes": _count(call, "probes", given["probes"]),
    }


def _parse_kron(call: str, written: str, options: list[str]) -> Choice:
    ranks = [option for option in options if "=" not in option]
    if len(ranks) > 1:
        raise SettingError(f"{call}: expected one rank, as in 'kron:3', got {len(ranks)}.")
    usual = {"rest": "exact", "group": "no"}
    given = _read_options(call, [each for each in options if "=" in each], usual, list(usual))
    rank = _count(call, "rank", ranks[0]) if ranks else 2
    rest: Any = UORO() if given["rest"] == "uoro" else given["rest"]
    require_choice(call, "group", given["group"], ("no", "yes"))
    return Choice(written, KroneckerSum(rank, rest=rest, group=given["group"] == "yes"), 1)


def _read_options(
    call: str, options: list[str], usual: dict[str, str], known: list[str]
) -> dict[str, str]:
    """Return ``usual`` with the options ``key=value`` that are given."""
    given: dict[str, str] = {}
    for option in options:
        key, equals, value = option.partition("=")
        key = FORMER_OPTIONS.get(key, key)
        if key in given:
            raise SettingError(f"{call}: expected '{key}' once, got it twice.")
        if not equals or key not in usual:
            kinds = ", ".join(f"{name}=..." for name in known)
            raise SettingError(f"{call}: expected the options {kinds}, got '{option}'.")
        given[key] = value
    return {**usual, **given}


def _parse_tbptt(call: str, written: str, options: list[str]) -> Choice:
    kinds = [option for option in options if option in ("rolling", "chunked")]
    lengths = [option for option in options if option not in kinds]
    if len(lengths) != 1 or len(kinds) > 1:
        raise SettingError(
            f"{call}: expected one length, as in 'tbptt:10' (chunked) or 'tbptt:10,rolling', "
            f"got {spelled(','.join(options))}."
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
