"""Each mistake of `docs/mistakes.md` says what the page says it does."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
MEASURED = re.compile(r"\d\.\d+e[+-]\d+")
"""Numbers that come out of a run of many steps, and are rounded differently on each machine."""
SLOW = ("never learns", "between `backward()` and", "does not forget", "its scale", "broke", "JAX")


@pytest.fixture
def mistakes(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module("mistakes")


def committed() -> dict[str, str]:
    page = (ROOT / "docs" / "mistakes.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| \d+ \| (.+) \| \*\*(\w+)\*\* (.+) \|$", page, re.MULTILINE)
    return {mistake: f"{kind} {words}" for mistake, kind, words in rows}


def differing(wanted: dict[str, str], rows: Any) -> list[str]:
    """Return what mistakes say, where the page says something else."""
    told = [(row.mistake, f"{row.kind} {row.words}") for row in rows]
    return [
        words
        for mistake, words in told
        if MEASURED.sub("", wanted[mistake].replace("&lt;", "<").replace("\\|", "|"))
        != MEASURED.sub("", words)
    ]


def test_mistakes_say_what_the_page_says(mistakes: Any) -> None:
    wanted = committed()
    assert len(wanted) >= 40
    known = [*mistakes.IN_TORCH, *mistakes.IN_USAGE, *mistakes.IN_JAX]
    assert len(known) == len(wanted)
    quick = [one for one in known if not any(word in one.__doc__ for word in SLOW)]
    rows = [mistakes.said(one) for one in quick]
    assert len(rows) >= 40
    assert not differing(wanted, rows)
    longer = {mistake: f"{words}." for mistake, words in wanted.items()}
    assert len(differing(longer, rows)) == len(rows)


@pytest.mark.thorough
def test_every_mistake_says_what_the_page_says(mistakes: Any) -> None:
    assert not differing(committed(), mistakes.all_said())


def test_no_mistake_is_silent_but_for_those_that_nobody_can_know() -> None:
    kinds = [words.partition(" ")[0] for words in committed().values()]
    assert set(kinds) <= {"error", "warning", "number", "works", "nothing"}
    assert kinds.count("nothing") == 3
