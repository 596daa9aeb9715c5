"""The page of results, from the JSON files alone."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from uoro.arguments import mismatch, require_path
from uoro.errors import ReproductionError
from uoro.lab.jobs import Results
from uoro.lab.reproduce.catalogue import EXPERIMENTS
from uoro.lab.reproduce.claims import Claim, settled
from uoro.lab.reproduce.document import read_document
from uoro.lab.reproduce.experiment import Experiment

HEADING = """# Reproduction

The results of the paper, the results here, and a verdict on each claim. This page is generated from
the JSON files beside it, which hold every curve and every setting:

```sh
uoro reproduce all --scale paper --out {folder}   # runs what is missing
uoro report {folder} --write docs/reproduction.md
```

`uoro reproduce all` alone runs a small scale, in minutes. Ctrl-C keeps finished runs.
"""


def report(folder: Path, page: Path) -> str:
    """Return the page for a folder of results, as Markdown.

    Args:
        folder: Folder of the JSON and PNG files.
        page: Path of the page, for its links.

    Raises:
        SettingError: If ``folder`` or ``page`` is no path.
        ReproductionError: If the folder holds no results, or a file cannot be read.
    """
    folder = require_path("report(folder, page)", "folder", folder)
    page = require_path("report(folder, page)", "page", page)
    found = [(one, folder / f"{one.name}.json") for one in EXPERIMENTS]
    there = [(one, *read_document(path)) for one, path in found if os.path.exists(path)]
    if not there:
        hint = f"Try: uoro reproduce all --out {folder}"
        raise ReproductionError(mismatch("report", str(folder), "results", "none", hint))
    parts = [HEADING.format(folder=folder.as_posix()), _summary(there)]
    link = Path(os.path.relpath(folder, page.parent))
    for experiment, results, missing in there:
        parts.append(_section(experiment, results, missing, link))
    return "\n".join(parts)


def _claims(experiment: Experiment, results: Results, missing: int) -> list[Claim]:
    return settled(experiment.claims(results), len(results), len(results) + missing)


def _summary(there: Sequence[tuple[Experiment, Results, int]]) -> str:
    rows = [["", "claim", "verdict"]]
    for experiment, results, missing in there:
        for claim in _claims(experiment, results, missing):
            rows.append([_linked(experiment), claim.sentence, f"**{claim.verdict}**"])
    return _markdown(rows)


def _section(experiment: Experiment, results: Results, missing: int, link: Path) -> str:
    seconds = sum(done.seconds for done in results.values())
    made = {json.dumps(done.made, sort_keys=True): done.made for done in results.values()}
    lines = [
        f"## {experiment.name}: {experiment.title}",
        "",
        f"![{experiment.title}]({(link / experiment.name).as_posix()}.png)",
        "",
        f"*The paper.* {experiment.paper}",
        "",
        f"*Here.* {experiment.ours}",
        "",
        _markdown(experiment.table(results)),
    ]
    for claim in _claims(experiment, results, missing):
        lines += [f"- {claim.sentence} **{claim.verdict}.** {claim.support}"]
    lines += ["", f"{len(results)} runs, {seconds / 60:,.0f} minutes of one core."]
    lines += [f"Made with {_spell(facts)}." for facts in made.values()]
    return "\n".join([*lines, ""])


def _spell(facts: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {number}" for name, number in facts["versions"].items())
    return (
        f"Python {facts['python']}, {versions}, on {facts['cores']} cores, {facts['architecture']}"
    )


def _linked(experiment: Experiment) -> str:
    anchor = "".join(
        letter
        for letter in f"{experiment.name}: {experiment.title}".lower()
        if letter.isalnum() or letter in " -_"
    )
    return f"[{experiment.name}](#{anchor.replace(' ', '-')})"


def _markdown(rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return ""
    lines = [f"| {' | '.join(row)} |" for row in rows]
    lines.insert(1, "|" + "---|" * len(rows[0]))
    return "\n".join(lines) + "\n"
