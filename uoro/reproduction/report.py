"""The page of results, made from the JSON files and nothing else."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from uoro.errors import ReproductionError
from uoro.reproduction.catalogue import EXPERIMENTS
from uoro.reproduction.document import read_runs
from uoro.reproduction.experiment import Experiment
from uoro.reproduction.run import Results

HEADING = """# Reproduction

What the paper shows, what came of it here, and a verdict on each of its claims. This page is made
from the JSON files beside it, which hold every curve and every setting:

```sh
uoro reproduce all --scale paper --out {folder}
uoro report {folder} --write docs/reproduction.md
```

`uoro reproduce all` alone does it on a small scale, in minutes. Ctrl-C keeps what is done.
"""


def report(folder: Path, page: Path) -> str:
    """Write the page for a folder of results.

    Args:
        folder: Where the JSON and PNG files are.
        page: Where the page will be, for its links.

    Raises:
        ReproductionError: If the folder holds no results, or a file cannot be read.
    """
    found = [(one, folder / f"{one.name}.json") for one in EXPERIMENTS]
    there = [(one, path, read_runs(path)) for one, path in found if path.exists()]
    if not there:
        raise ReproductionError(
            f"report {folder}: there are no results. Make some: uoro reproduce all --out {folder}"
        )
    parts = [HEADING.format(folder=folder.as_posix()), _summary(there)]
    link = Path(os.path.relpath(folder, page.parent))
    for experiment, path, results in there:
        parts.append(_section(experiment, results, _facts(path), link))
    return "\n".join(parts)


def _summary(there: Sequence[tuple[Experiment, Path, Results]]) -> str:
    rows = [["", "claim", "verdict"]]
    for experiment, _, results in there:
        for claim in experiment.claims(results):
            rows.append([_linked(experiment), claim.sentence, f"**{claim.verdict}**"])
    return _markdown(rows)


def _section(experiment: Experiment, results: Results, facts: dict[str, Any], link: Path) -> str:
    seconds = sum(done.seconds for done in results.values())
    backends = sorted({done.settings["backend"] for done in results.values()})
    machine = facts["machine"]
    versions = ", ".join(f"{name} {number}" for name, number in facts["versions"].items())
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
    for claim in experiment.claims(results):
        lines += [f"- {claim.sentence} **{claim.verdict}.** {claim.support}"]
    lines += [
        "",
        f"{len(results)} runs on {', '.join(backends)}, {seconds / 60:,.0f} minutes of one core "
        f"({machine['architecture']}, {machine['cores']} cores; Python {machine['python']}, "
        f"{versions}).",
        "",
    ]
    return "\n".join(lines)


def _facts(path: Path) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return facts


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
