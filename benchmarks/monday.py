"""Compare what is taken where no estimator is named with truncation, on two tasks with memory.

    python benchmarks/monday.py sensor                      # JAX, five seeds
    python benchmarks/monday.py recall --backend torch
    python benchmarks/monday.py recall --low 60 --high 80 --items 120000 --estimators auto,rtrl
    python benchmarks/monday.py --page                      # the tables of docs/monday.md

Every row sees the same items, with the task's network and optimizer. Times are processor times of
one core, compilation left out; the loss is the mean over the last quarter of the items.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from uoro import Learner, load_backend
from uoro.derivatives.unroll import unroll
from uoro.estimators.spelling import parse_estimator, split_estimators
from uoro.files.results import write_document
from uoro.lab.compare import resolve
from uoro.tasks import Network, Task, make_task

FOLDER = Path(__file__).parent.parent / "docs" / "monday"
ROWS = {
    "sensor": "auto,kron:2,uoro,tbptt:1,tbptt:16,rolling",
    "recall": "auto,kron:2,uoro,joint:4,tbptt:1,tbptt:16,rolling,tbptt:32,rolling",
}
CHUNK = 250


def main() -> None:
    """Run one task, or print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("task", nargs="?", choices=sorted(ROWS))
    parser.add_argument("--page", action="store_true", help="print the tables of what was run")
    parser.add_argument("--backend", default="jax")
    parser.add_argument("--estimators", help="separated by commas")
    parser.add_argument("--items", type=int, default=60_000)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--model", default="gru")
    parser.add_argument("--units", type=int, default=32)
    parser.add_argument("--low", type=int, default=20, help="recall: shortest delay")
    parser.add_argument("--high", type=int, default=30, help="recall: longest delay")
    parser.add_argument("--out", type=Path, help="JSON; default in docs/monday")
    given = parser.parse_args()
    if given.page or given.task is None:
        print(
            "\n\n".join(table_of(json.loads(p.read_text())) for p in sorted(FOLDER.glob("*.json")))
        )
        return
    options = {"low": given.low, "high": given.high} if given.task == "recall" else {}
    task = make_task("monday", given.task, options, Network(given.model, given.units))
    backend = load_backend(given.backend)
    names = split_estimators([given.estimators or ROWS[given.task]])
    choices, chosen = resolve(task, backend, [parse_estimator(n) for n in names], 0, "float32")
    delay = f"-{given.low}-{given.high}" if options else ""
    out = (
        given.out or FOLDER / f"{given.task}{delay}-{given.model}{given.units}-{backend.name}.json"
    )
    rows: dict[str, Any] = {choice.name: {"losses": [], "seconds": []} for choice in choices}
    document = {
        "task": task.title,
        "backend": backend.name,
        "items": given.items,
        "loss": task.loss_name,
        "auto": None if chosen is None else chosen.spelling,
        "rows": rows,
    }
    for seed in range(given.seeds):
        for choice in choices:
            loss, seconds = run(task, backend, choice, given.items, seed)
            rows[choice.name]["losses"].append(loss)
            rows[choice.name]["seconds"].append(seconds)
            print(f"seed {seed} {choice.name:18} {loss:.4f} {seconds:7.1f} s", file=sys.stderr)
            out.parent.mkdir(parents=True, exist_ok=True)
            write_document(out, document)
    print(table_of(document))


def run(task: Task, backend: Any, choice: Any, items: int, seed: int) -> tuple[float, float]:
    """Return the mean loss over the last quarter of the items, and the time of all in seconds."""
    with backend.precision("float32"):
        params, state = task.model.init(np.random.default_rng(seed))
        learner = Learner(
            unroll(task.dynamics(backend), choice.span)
            if choice.span > 1
            else task.dynamics(backend),
            choice.estimator,
            task.optimizer,
            backend.from_host(params, dtype="float32"),
            backend.from_host(state, dtype="float32"),
            seed=seed,
        )
        stream, losses = task.stream(seed), list[float]()
        rates: list[float] = []
        while len(losses) * choice.span < items:
            begun = time.process_time()
            learner.run(stream, CHUNK, chunk=CHUNK, report=lambda each: losses.extend(each.losses))
            rates.append(time.process_time() - begun)
    last = losses[-len(losses) // 4 :]
    return float(np.mean(last)) * task.loss_scale, statistics.median(rates) * len(rates)


def table_of(document: dict[str, Any]) -> str:
    """Return the table of one task as Markdown."""
    lines = [
        f"{document['task']}, {document['backend']}, {document['items']:,} items, "
        f"{document['loss']}:",
        "",
        "| estimator | mean | seeds | seconds | loss and time beside the first row |",
        "|---|---|---|---|---|",
    ]
    first: tuple[float, float] | None = None
    for name, row in document["rows"].items():
        said = f"{name} (no estimator named)" if name == document["auto"] else name
        seeds = ", ".join(f"{loss:.4f}" for loss in row["losses"])
        mean, seconds = statistics.mean(row["losses"]), statistics.median(row["seconds"])
        first = first or (mean, seconds)
        ratios = f"{mean / first[0]:.2f}, {seconds / first[1]:.2f}"
        lines.append(f"| {said} | {mean:.4f} | {seeds} | {seconds:.3g} | {ratios} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
