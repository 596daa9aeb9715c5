"""How much an algorithm carries of what earlier steps give to a gradient; for ``peers_conform.py``.

Of a sum of gradients over some steps, at fixed params, let E be the exact one, and C that of each
step alone, with the state held constant. The carried part of G is ``<G - C, E - C> / ‖E - C‖²``: 1
where G is exact, or unbiased in the mean, and 0 where nothing is carried. Each leaf of the params
has a carried part of its own.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import Any

import numpy as np
from uoro_conformance.monte_carlo import check_mean

Leaves = Mapping[str, Any]
"""Arrays by name: a gradient, on the host."""

DELTA = 0.25
"""The bias of a carried part that matters, as in the suite's own test by sampling under ``ci``."""

BATCH = 500
WORTH_A_LOOK = 0.01
"""A leaf is judged by itself if its carried part has that share of the square of the whole."""

TINY = 1e-12
"""Where a leaf has a smaller share, nothing is to be carried."""


def judge(exact: Leaves, alone: Leaves, draw: Callable[[int], Leaves], runs: int) -> dict[str, Any]:
    """Compare an algorithm's sums of gradients with the exact one.

    Args:
        exact: E.
        alone: C.
        draw: From the number of a run to its G. With ``runs = 1`` the algorithm is deterministic.
        runs: Number of runs.

    Returns:
        The carried part of the whole and of each leaf, with standard errors; how far G, or its
        mean, is from E, relative; and the verdict of the suite's test, `check_mean`.
    """
    carried = {name: np.asarray(exact[name] - alone[name], float) for name in exact}
    square = sum(float((leaf**2).sum()) for leaf in carried.values())
    looks = {name: leaf for name, leaf in carried.items() if (leaf**2).sum() > TINY * square}
    parts, total = [], {name: np.zeros_like(leaf) for name, leaf in carried.items()}
    for run in range(runs):
        found = draw(run)
        of_leaf = {
            name: float(((np.asarray(found[name]) - alone[name]) * leaf).sum())
            for name, leaf in carried.items()
        }
        parts.append(
            [sum(of_leaf.values()) / square]
            + [of_leaf[name] / float((leaf**2).sum()) for name, leaf in looks.items()]
        )
        total = {name: total[name] + np.asarray(found[name]) / runs for name in total}
    rows, names = np.array(parts), ["all", *looks]
    if runs == 1:
        rows = np.repeat(rows, 2 * BATCH, axis=0)
    judged = [
        number
        for number, name in enumerate(names)
        if name == "all" or (looks[name] ** 2).sum() > WORTH_A_LOOK * square
    ]
    finding = check_mean(
        lambda batch: rows[batch * BATCH : (batch + 1) * BATCH, judged],
        [1.0] * len(judged),
        [names[number] for number in judged],
        delta=DELTA,
        most=len(rows) - BATCH,
    )
    off = {name: np.asarray(total[name] - exact[name], float) for name in exact}
    size = sum(float((np.asarray(leaf, float) ** 2).sum()) for leaf in exact.values())
    errors = rows.std(axis=0) / math.sqrt(runs)
    return {
        "runs": runs,
        "carried": dict(zip(names, rows.mean(axis=0).tolist(), strict=True)),
        "error": dict(zip(names, errors.tolist(), strict=True)),
        "off": math.sqrt(sum(float((leaf**2).sum()) for leaf in off.values()) / size),
        "share": math.sqrt(square / size),
        "verdict": finding.verdict,
        "evidence": finding.evidence,
    }


def always(found: Leaves) -> Callable[[int], Leaves]:
    """Return the draw of an algorithm that is deterministic."""
    return lambda run: found


def quoted(said: str, where: Any) -> str:
    """Return a quotation if the documentation of an object contains it.

    Raises:
        ValueError: If it does not.
    """
    if said not in " ".join((where.__doc__ or "").split()):
        raise ValueError(f"expected in the documentation of {where}: {said!r}")
    return said


def report(packages: list[str], rows: list[dict[str, Any]]) -> None:
    """Print what was found as JSON, the last thing that is printed."""
    versions = {name: version(name) for name in packages}
    print(json.dumps({"versions": versions, "rows": rows}, indent=1))
