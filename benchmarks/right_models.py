"""Right models and right estimators under the suite: none may be called wrong.

    python benchmarks/right_models.py run torch     # also autograd, jax; adds docs/right/torch.json
    python benchmarks/right_models.py page           # writes docs/right.md from the files
    python benchmarks/right_models.py list           # the names alone

A run may be interrupted: what its file has is not checked again. Each model is checked as ``uoro
check`` does, in float64 and float32: its derivatives at every item, and UORO on it. Each estimator
is checked so on one model that it is for. Exit status 1 if one is called wrong.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from uoro_conformance import System, check_model
from uoro_conformance.mutants.right_models import RIGHT_MODELS
from uoro_conformance.profiles import profile_named
from uoro_conformance.programs import compile_fast, drop_programs

from uoro import Backend, load_backend
from uoro.estimator import Estimator
from uoro.estimators import RTRL, UORO, BlockRTRL, JointUORO, KroneckerSum

ROOT = Path(__file__).resolve().parent.parent
RESULTS, PAGE = ROOT / "docs" / "right", ROOT / "docs" / "right.md"
BACKENDS, DTYPES = ("autograd", "torch", "jax"), ("float64", "float32")

CELLS = {
    "scalars shared by all units": System("tied", 3, 3, 2),
    "GRU": System("gru", 2, 3, 6),
    "LSTM": System("lstm", 2, 3, 7),
    "GRU under tanh": System("stack", 2, 3, 8),
    "a state of three leaves": System("leaves", 2, 3, 9),
}
"""Models of the suite's own systems, beside the catalogue of those that are hard to check."""

MODELS = (*RIGHT_MODELS, *CELLS)

TANH = System("tanh", 3, 4, 1)


class Held(NamedTuple):
    """An estimator, the system that it is checked on, and how many items one step takes."""

    estimator: Estimator
    system: System = TANH
    span: int = 1


ESTIMATORS = {
    "UORO": Held(UORO()),
    "UORO, memory 2": Held(UORO(), span=2),
    "UORO, rank 2": Held(UORO(rank=2)),
    "UORO, Gaussian": Held(UORO(distribution="gaussian")),
    "UORO, spherical": Held(UORO(distribution="spherical")),
    "UORO, scaled by rows": Held(UORO(scaling="rows")),
    "UORO, pair in float32": Held(UORO(pair_dtype="float32")),
    "UORO beside a diagonal baseline": Held(UORO(baseline="diagonal"), System("gru", 2, 3, 6)),
    "joint, rank 1": Held(JointUORO(1)),
    "joint, rank 2": Held(JointUORO(2)),
    "Kronecker sum, rank 1": Held(KroneckerSum(1)),
    "Kronecker sum, rank 2": Held(KroneckerSum(2)),
    "RTRL": Held(RTRL()),
    "block RTRL": Held(BlockRTRL(), System("elstm", 3, 4, 6)),
}


def _made(backend: Backend, name: str, dtype: str) -> tuple[Any, ...]:
    """Return dynamics, params, state and items of a model of the catalogue or of a system."""
    if name in RIGHT_MODELS:
        model = RIGHT_MODELS[name]
        params, state, *items = (
            backend.from_host(tree, dtype=dtype)
            for tree in (model.params, model.state, *model.items)
        )
        return backend.dynamics(partial(model.transition, backend.xp)), params, state, items
    return _of_system(backend, CELLS[name], dtype)


def _of_system(backend: Backend, system: System, dtype: str) -> tuple[Any, ...]:
    trial = system.build(backend, dtype)
    return trial.dynamics, trial.params[0], trial.state, trial.items


def checked(
    backend: Backend, made: tuple[Any, ...], estimator: Estimator | None, span: int = 1
) -> dict[str, Any]:
    """Check one subject; return the exit status and what does not hold."""
    begun = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # NumPy's, where float32 overflows
        report = check_model(*made, estimator=estimator, span=span)
    drop_programs(backend)
    return {
        "status": report.exit_status,
        "laws": len(report.entries),
        "seconds": round(time.perf_counter() - begun, 1),
        "open": [
            {"law": entry.id, "verdict": entry.finding.verdict, "evidence": entry.finding.evidence}
            for entry in report.entries
            if entry.finding.verdict not in ("holds", "not checked")
        ],
    }


def run(name: str, path: Path) -> dict[str, Any]:
    """Check every subject on one backend, in both precisions; those that a file has are kept."""
    backend = load_backend(name)
    compile_fast(backend, profile_named("ci"))
    found: dict[str, Any] = {"models": {}, "estimators": {}}
    if path.exists():
        found = json.loads(path.read_text(encoding="utf-8"))
    for dtype in reversed(DTYPES):
        for kind, names in (("models", MODELS), ("estimators", ESTIMATORS)):
            for subject in names:
                results = found[kind].setdefault(subject, {})
                if dtype in results:
                    continue
                with backend.precision(dtype):
                    if kind == "models":
                        result = checked(backend, _made(backend, subject, dtype), None)
                    else:
                        held = ESTIMATORS[subject]
                        made = _of_system(backend, held.system, dtype)
                        result = checked(backend, made, held.estimator, held.span)
                results[dtype] = result
                text = json.dumps(found, indent=1, ensure_ascii=False) + "\n"
                path.write_text(text, encoding="utf-8")
                why = "; ".join(f"{each['law']}: {each['verdict']}" for each in result["open"])
                print(f"{name} {dtype} {subject}: {result['status']} {why}", flush=True)
    return found


REASONS = {
    "not finite": "numbers of the precision overflow, so that there is nothing finite to compare",
    "not sure": "the differences are too rough for a leaf, and say so",
}
"""From a part of the evidence to the reason in words."""


PROSE = """\
# Right models and right estimators

Written by `python benchmarks/right_models.py page`, of runs of `python benchmarks/right_models.py
run BACKEND`. Thirty models that are right, most of them hard to check, and fourteen estimators that
are what they declare, under the checks of `uoro check` ([conformance.md](conformance.md)): the laws
of derivatives at every item, then UORO on the model, or the estimator on a model that it is for.
A number is the exit status: 0, all that was checked holds; 3, something is undecided or
unverifiable, for the reason below the tables; 1 would be a false alarm; – has not been run.
"""


def page(results: Path) -> str:
    """Write the page from the files of results."""
    found = dict[tuple[str, str, str, str], dict[str, Any]]()
    for name in BACKENDS:
        path = results / f"{name}.json"
        kinds = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        for kind, subjects in kinds.items():
            for subject, by_dtype in subjects.items():
                for dtype, result in by_dtype.items():
                    found[kind, subject, name, dtype] = result
    lines, reasons = [PROSE], dict[str, list[str]]()
    columns = [(name, dtype) for name in BACKENDS for dtype in DTYPES]
    for kind, names in (("models", MODELS), ("estimators", tuple(ESTIMATORS))):
        title = kind.capitalize()[:-1]
        lines.append(f"| {title} | {' | '.join(f'{n}, {d}' for n, d in columns)} |")
        lines.append("|---" * (1 + len(columns)) + "|")
        for subject in names:
            results_of = [found.get((kind, subject, *column)) for column in columns]
            cells = ["–" if each is None else str(each["status"]) for each in results_of]
            lines.append(f"| {subject} | {' | '.join(cells)} |")
            for (name, dtype), result in zip(columns, results_of, strict=True):
                for each in result["open"] if result else ():
                    reason = f"{each['verdict']}: {_reason(each['evidence'])}"
                    where = f"{subject} ({name}, {dtype}, `{each['law']}`)"
                    reasons.setdefault(reason, []).append(where)
        lines.append("")
    if reasons:
        lines += ["## What is open, and why", ""]
        lines += [f"- *{reason}*: {'; '.join(where)}." for reason, where in reasons.items()]
        lines.append("")
    statuses = [result["status"] for result in found.values()]
    counts = ", ".join(f"{statuses.count(status)} with {status}" for status in (0, 1, 3))
    missing = len(columns) * (len(MODELS) + len(ESTIMATORS)) - len(statuses)
    lines.append(f"Of {len(statuses)} checks there are {counts}; {missing} (–) have not been run.")
    return "\n".join([*lines, ""])


def _reason(evidence: str) -> str:
    """Leave out of the evidence where it was seen, and the numbers: what remains is the reason."""
    for known in REASONS:
        if known in evidence:
            return REASONS[known]
    return evidence.replace("|", "\\|")


def main() -> int:
    """Run, list, or write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=("run", "page", "list"))
    parser.add_argument("backends", nargs="*", help="for run; all of them if none is named")
    options = parser.parse_args()
    if options.what == "list":
        print(f"{len(MODELS)} models: {', '.join(MODELS)}")
        print(f"{len(ESTIMATORS)} estimators: {', '.join(ESTIMATORS)}")
        return 0
    if options.what == "page":
        PAGE.write_text(page(RESULTS), encoding="utf-8")
        return 0
    wrong = 0
    RESULTS.mkdir(exist_ok=True)
    for name in options.backends or BACKENDS:
        found = run(name, RESULTS / f"{name}.json")
        wrong += sum(
            result["status"] not in (0, 3)
            for kind in found.values()
            for subject in kind.values()
            for result in subject.values()
        )
    print(f"{wrong} called wrong.")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
