"""Bias, noise, time and memory of estimators on networks that learnt aⁿbⁿ: the page docs/which.md.

python benchmarks/which.py measure gru 64 100000 300   # characters of training; seconds
python benchmarks/which.py page docs/which.md          # measures nothing
"""

from __future__ import annotations

import json
import math
import os
import sys
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")

import numpy as np

from uoro import UORO, Learner, load_backend, suggest
from uoro.files.results import made_with, write_document
from uoro.suggesting import Facts, Row, recommended
from uoro.suggesting.suggestion import with_error
from uoro.tasks import Network, anbn

RESULTS = Path(__file__).resolve().parents[1] / "docs" / "which"
BEGIN = "<!-- Below: python benchmarks/which.py page docs/which.md -->\n"
END = "<!-- Above: the measurements -->\n"
CELLS = {"rnn": "tanh", "gru": "GRU", "lstm": "LSTM", "lru": "LRU"}
UNITS = (16, 64, 256, 1024)
ORDER = (
    "block", "rtrl", "kron:1", "kron:2", "kron:3", "joint:4", "joint:4,scaling=rows",
    "joint:4,baseline=diagonal", "joint:16", "uoro", "uoro:rank=4", "uoro:baseline=diagonal",
    "snap", "tbptt:1", "tbptt:16", "tbptt:16,rolling",
)  # fmt: skip


def measure(cell: str, units: str, characters: str, budget: str) -> None:
    """Train a network by UORO, hold it, measure everything, and write the JSON file."""
    backend, task = load_backend("jax"), anbn(network=Network(cell, int(units)))
    start = task.model.init(np.random.default_rng(0))
    params, state = (backend.from_host(tree, dtype="float32") for tree in start)
    dynamics = backend.dynamics(partial(task.model.transition, backend.xp))
    learner, stream = Learner(dynamics, UORO(), task.optimizer, params, state), task.stream(0)
    learner.run(stream, int(characters), chunk=1000)
    found = suggest(
        dynamics, learner.params, learner.state, stream, trained=True, budget=float(budget),
        report=partial(print, flush=True),
    )  # fmt: skip
    print(found)
    about = {"cell": cell, "units": int(units), "characters": int(characters)}
    document = {**about, **found.document(), "made_with": made_with("jax")}
    write_document(RESULTS / f"{cell}-{units}.json", document)


def sections(folder: Path) -> str:
    """Return a section for each cell, from the files of a folder."""
    files = sorted(folder.glob("*.json"))
    every = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    return "\n".join(
        _section(title, {one["units"]: one for one in every if one["cell"] == cell})
        for cell, title in CELLS.items()
    )


def _section(title: str, by_units: dict[int, dict[str, Any]]) -> str:
    here = [units for units in UNITS if units in by_units]
    rows = {n: {row["spelling"]: row for row in by_units[n]["rows"]} for n in here}
    headings = [f"{n:,} units: error | µs | memory" for n in here]
    lines = [f"| {title} | {' | '.join(headings)} |", "|---" * (1 + 3 * len(here)) + "|"]
    for name in ORDER:
        if any(name in rows[n] for n in here):
            cells = " | ".join(_cells(rows[n].get(name)) for n in here)
            lines.append(f"| `{name}` | {cells} |")
    lines.append("")
    for n in here:
        one = by_units[n]
        found = recommended(Facts(**one["facts"]), [_row(row) for row in one["rows"]], trained=True)
        once = all(row["seconds_low"] == row["seconds_high"] for row in one["rows"])
        lines.append(
            f"- {n:,} units, {one['characters']:,} characters of training, "
            f"{one['facts']['params']:,} params, {one['reference'].rstrip('.')}"
            f"{', timed once, beside other programs' if once else ''}: "
            f"**{found.spelling}**. {found.reason}"
        )
    missing = [f"{n:,}" for n in UNITS if n not in by_units]
    if missing:
        lines.append(f"- Not measured: {' and '.join(missing)} units.")
    return "\n".join(lines) + "\n"


def _row(row: dict[str, Any]) -> Row:
    known: dict[str, Any] = {k: math.nan if value is None else value for k, value in row.items()}
    return Row(**known)


def _cells(row: dict[str, Any] | None) -> str:
    if row is None:
        return "| | "
    known = {key: math.nan if value is None else value for key, value in row.items()}
    if row["guarantee"] == "biased":
        error = f"bias {with_error(known['bias'], known['bias_error'])}"
    else:
        error = with_error(known["noise"], known["noise_error"])
    micros, memory = 1e6 * known["seconds"], known["memory"]
    time = f"{micros:,.0f}" if micros >= 100 else f"{micros:.3g}"
    return f"{error} | {time} | {f'{memory:,.0f}' if memory >= 100 else f'{memory:.2g}'}"


def page(name: str) -> None:
    """Write the sections between the marks of a page."""
    write(Path(name), RESULTS)


def write(file: Path, folder: Path) -> None:
    """Write the sections of a folder between the marks of a page."""
    before, begin, rest = file.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"which.py page: expected {BEGIN.strip()!r} and {END.strip()!r} in {file}")
    file.write_text(f"{before}{begin}\n{sections(folder)}\n{end}{after}", encoding="utf-8")


if __name__ == "__main__":
    commands: dict[str, Any] = {"measure": measure, "page": page}
    commands[sys.argv[1]](*sys.argv[2:])
