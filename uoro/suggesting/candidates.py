"""The estimators that fit a model, and what can be taken as exact."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any

from uoro.arguments import mismatch, require_list
from uoro.errors import SettingError, spelled
from uoro.estimator import ParallelEstimator
from uoro.estimators.auto import require_estimator
from uoro.estimators.recommending import Facts
from uoro.estimators.spelling import Choice, parse_estimator
from uoro.estimators.truncated import Truncated, TruncatedBPTT

FIRST = ("kron:2", "uoro", "tbptt:16", "joint:4", "tbptt:1", "snap")
"""Estimators that are measured first, where they fit."""
FURTHER = (
    "tbptt:16,rolling",
    "kron:1",
    "kron:3",
    "joint:4,scaling=rows",
    "uoro:baseline=diagonal",
    "joint:16",
    "joint:4,baseline=diagonal",
    "uoro:rank=4",
)
"""Estimators that are measured while there is time."""
REFERENCES = ("kron:4", "joint:16")
"""What stands in for an exact gradient, as a mean of replicas."""
MOST_NUMBERS = 50_000_000
"""Numbers that an estimator may carry."""
MOST_WORK = 200_000_000_000
"""Multiply-adds of a whole run of exact RTRL."""


def fitting(facts: Facts, steps: int) -> tuple[list[str], dict[str, str]]:
    """Return the estimators that fit a model, in order, and why others are left out."""
    names, left_out = list[str](), dict[str, str]()
    for name in (*FIRST, *FURTHER):
        unfit = _unfit(facts, name)
        if unfit:
            left_out[name] = unfit
        else:
            names.append(name)
    if facts.local:
        names.insert(0, "block")
    if _affords_dense(facts, steps):
        names.insert(3, "rtrl")
    else:
        left_out["rtrl"] = f"{facts.dense_work:,} multiply-adds a step"
    return names, left_out


def _unfit(facts: Facts, name: str) -> str:
    """Return why an estimator does not fit a model; empty if it does."""
    kind, _, rest = name.partition(":")
    if kind == "kron":
        if not facts.rows:
            return "no matrix has an outer product as its immediate Jacobian"
        if facts.kronecker_numbers(int(rest)) > MOST_NUMBERS:
            return f"{facts.kronecker_numbers(int(rest)):,} numbers to carry"
    if kind == "snap" and facts.local:
        return "it is block here"
    rank = rest.partition(",")[0]
    if kind == "joint" and int(rank) > facts.coordinates:
        return f"rank {facts.coordinates} is exact"
    return ""


def reference_for(facts: Facts, steps: int) -> tuple[str, bool]:
    """Return the estimator whose gradient others are compared with, and whether it is exact."""
    if facts.local:
        return "block", True
    if _affords_dense(facts, steps):
        return "rtrl", True
    fits = [name for name in REFERENCES if not _unfit(facts, name)]
    return (fits[0] if fits else "uoro:rank=16"), False


def _affords_dense(facts: Facts, steps: int) -> bool:
    numbers = facts.coordinates * facts.params
    return numbers <= MOST_NUMBERS and facts.dense_work * steps <= MOST_WORK


def chosen(estimators: Sequence[Any]) -> list[Choice]:
    """Return estimators that a user names, by their spelling or as they are."""
    call = f"suggest(estimators={spelled(estimators)})"
    choices = list[Choice]()
    for each in require_list(call, "estimators", estimators):
        if isinstance(each, str):
            choice = parse_estimator(each)
            require_estimator(call, choice.estimator)
        else:
            require_estimator(call, each)
            choice = Choice(_written(each), each, 1)
        if choice.span is None or isinstance(choice.estimator, ParallelEstimator):
            expected = "estimators of one stream, for updates along it"
            raise SettingError(mismatch(call, "estimators", expected, choice.name))
        choices.append(choice)
    if not choices:
        raise SettingError(mismatch(call, "estimators", "at least one", "none"))
    return choices


def _written(estimator: Any) -> str:
    """Return how an estimator is written in Python, without the arguments that are defaults."""
    name, settings = type(estimator).__name__, list[str]()
    if not is_dataclass(estimator):
        return name
    for each in fields(estimator):
        value = getattr(estimator, each.name)
        if value != each.default:
            settings.append(f"{each.name}={spelled(value)}")
    return f"{name}({', '.join(settings)})"


def ready(choice: Choice) -> Choice:
    """Return a choice whose estimator a learner takes as it is."""
    if choice.estimator == Truncated() and (choice.span or 1) > 1:
        return replace(choice, estimator=TruncatedBPTT(choice.span or 1), span=1)
    return choice
