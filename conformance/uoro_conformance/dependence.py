"""Dependence between signs: of coordinates, leaves, streams, steps and runs, two and more at once.

Any product of distinct signs is a fair sign. So are the products of one pattern of signs that is
moved along a sequence, and they are independent: each holds a last sign that the ones before it do
not. Counts of +1 among independent signs have a binomial distribution. Each family of such
statistics gives e-values; their mean, and the mean of the families, is an e-value again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np

from uoro_conformance.finding import Finding
from uoro_conformance.signs import REJECT, log_e_value

LAGS = 64
"""Up to so many steps apart, chosen coordinates are compared with each other."""

CHOSEN, FEW = 20, 10
"""How many coordinates are chosen for pairs at all lags and triples, and for what is of more."""

WIDEST = 1024
"""Up to so many coordinates all pairs are looked at."""

WINDOWS = tuple(range(3, 65))
"""Numbers of neighbouring signs, in the order of draws, whose product is looked at."""

KEPT = 64
"""How many members of a family are scored: the most conspicuous; the others count as zero."""


class Family(NamedTuple):
    """Statistics of one kind.

    Attributes:
        sums: Sums of fair signs, one a member.
        counts: How many signs each sums.
    """

    sums: Any
    counts: Any


def check_dependence(draws: Any, leaves: Mapping[str, slice] | None = None) -> Finding:
    """Check that draws are fair signs, and independent in all ways that are looked at.

    Args:
        draws: An array (runs, steps, streams, coordinates).
        leaves: The coordinates of each leaf, by name; one leaf if not given.

    Returns:
        *broken* with the family that gave it away; the gap is log10 of the average e-value, and
        the finding resolves a correlation of neighbouring signs, in the order of draws.
    """
    law = "the signs are independent in every way looked at"
    draws = np.asarray(draws)
    if not (np.abs(draws) == 1).all():
        evidence = f"Values other than ±1 were drawn: {np.unique(draws)[:5]} …"
        return Finding(law, "broken", math.inf, 0.0, evidence)
    draws = draws.astype(np.int8)
    leaves = leaves or {"all": slice(0, draws.shape[3])}
    logs, power = dict[str, float](), dict[str, float]()
    for name, family in _families(draws, leaves):
        counts = np.broadcast_to(family.counts, np.shape(family.sums))
        if counts.size:
            logs[name] = _log_mean_e(np.asarray(family.sums, float), counts)
            power[name] = _seen(int(np.median(counts)), counts.size)
    for name, log in _dispersions(draws, leaves):
        logs[name] = log
    overall = _log_sum(list(logs.values())) - math.log(len(logs))
    worst = max(logs, key=lambda name: logs[name])
    gap, allowed = overall / math.log(10.0), math.log10(REJECT)
    runs, steps, streams, width = draws.shape
    seen = "; ".join(f"{name} {size:.2g}" for name, size in power.items())
    return Finding(
        law,
        "holds" if gap < allowed else "broken",
        gap,
        allowed,
        f"{runs} runs of {steps} steps, {streams} streams, {width} signs each, leaves "
        f"{', '.join(leaves)}; strongest evidence in {worst}, log10 e = "
        f"{logs[worst] / math.log(10.0):.3g}. Correlations that would be seen with even odds: "
        f"{seen}. Not looked at: products of three that are in no family, and of more than four "
        "beyond neighbours and whole leaves.",
        false_alarm=1.0 / REJECT,
        resolves=power["offsets in the order of draws"],
    )


def _log_sum(logs: list[float]) -> float:
    top = max(logs)
    return top + math.log(sum(math.exp(value - top) for value in logs))


def _log_mean_e(sums: Any, counts: Any) -> float:
    """Return the logarithm of a lower bound of the mean e-value: the most conspicuous alone."""
    sums, counts = sums.reshape(-1), counts.reshape(-1)
    score = np.abs(sums) / np.sqrt(np.maximum(counts, 1))
    top = np.argsort(score)[-KEPT:]
    successes = (sums[top] + counts[top]) / 2
    logs = [float(log_e_value(k, int(n))) for k, n in zip(successes, counts[top], strict=True)]
    return _log_sum(logs) - math.log(sums.size)


def _seen(count: int, members: int) -> float:
    """Return the correlation at which ``count`` products reach the threshold with even odds."""
    needed = math.log(REJECT * 30 * members) + 0.5 * math.log(math.pi * count / 2)
    return min(1.0, math.sqrt(2 * needed / count))


def _families(draws: Any, leaves: Mapping[str, slice]) -> Iterator[tuple[str, Family]]:
    _, steps, _, width = draws.shape
    rows = draws.reshape(-1, width)
    yield "single coordinates", Family(rows.sum(0, dtype=np.int64), len(rows))
    parts = [draws[..., where] for where in leaves.values() if draws[..., where].size]
    sums = [part.sum(dtype=np.int64) for part in [*parts, draws]]
    yield "leaves and all", Family(sums, [part.size for part in [*parts, draws]])
    yield from _offsets(draws)
    if width <= WIDEST and width > 1:
        wide = rows.astype(np.float32)
        products = wide.T @ wide
        yield "pairs of coordinates", Family(products[np.triu_indices(width, 1)], len(rows))
    chosen = draws[..., _chosen(leaves, CHOSEN)].astype(np.float32)
    most = min(LAGS, steps - 1)
    lagged, counts = [], []
    for lag in range(1, most + 1):
        late, early = (
            part.reshape(-1, chosen.shape[3]) for part in (chosen[:, lag:], chosen[:, :-lag])
        )
        lagged.append(late.T @ early)
        counts.append(np.full(lagged[-1].shape, len(late)))
    if lagged:
        yield f"pairs up to {most} steps apart", Family(np.stack(lagged), np.stack(counts))
    yield from _across(draws)
    yield from _of_more(draws, leaves)


def _chosen(leaves: Mapping[str, slice], most: int) -> list[int]:
    """Choose coordinates of all leaves in turn: the first, the last, the second, and so on."""
    orders = [
        [
            where.start + n // 2 if n % 2 == 0 else where.stop - 1 - n // 2
            for n in range(min(most, where.stop - where.start))
        ]
        for where in leaves.values()
    ]
    turns = [order[n] for n in range(most) for order in orders if n < len(order)]
    return sorted(turns[:most])


def _offsets(draws: Any) -> Iterator[tuple[str, Family]]:
    """Yield correlations along the order of draws, of each run with itself and of two runs.

    Distances go up to half a run, so that a transform of one and a half runs wraps nothing round.
    """
    flat = draws.reshape(len(draws), -1)
    count = flat.shape[1]
    reach = max(1, count // 2)
    size = _room(count + reach)
    spectra = [np.fft.rfft(row.astype(np.float64), size) for row in flat]
    total = np.fft.irfft(sum(np.abs(each) ** 2 for each in spectra), size)
    sums = np.rint(total[1 : reach + 1])
    same = Family(sums, len(flat) * (count - np.arange(1, len(sums) + 1)))
    yield "offsets in the order of draws", same
    for one, other in combinations(range(min(len(flat), 4)), 2):
        crossed = np.rint(np.fft.irfft(spectra[one] * np.conj(spectra[other]), size))
        shifts = np.arange(-min(reach, count - 1), min(reach, count - 1) + 1)
        yield f"runs {one} and {other}", Family(crossed[shifts], count - np.abs(shifts))


def _room(least: int) -> int:
    """Return a length of fast transforms: a power of two, or three or five times one."""
    return min(base << ((least - 1) // base).bit_length() for base in (1, 3, 5))


def _across(draws: Any) -> Iterator[tuple[str, Family]]:
    """Yield products of streams with streams."""
    streams = draws.shape[2]
    if streams > 1:
        rows = np.moveaxis(draws, 2, 0).reshape(streams, -1).astype(np.float32)
        products = rows @ rows.T
        pairs = Family(products[np.triu_indices(streams, 1)], rows.shape[1])
        yield "pairs of streams", pairs
        triples = list(combinations(range(min(streams, 8)), 3))
        sums = [float((rows[a] * rows[b] * rows[c]).sum()) for a, b, c in triples]
        yield "triples of streams", Family(sums, rows.shape[1])


def _of_more(draws: Any, leaves: Mapping[str, slice]) -> Iterator[tuple[str, Family]]:
    """Yield products of three signs and more."""
    runs, steps, _, width = draws.shape
    chosen = draws[..., _chosen(leaves, CHOSEN)].reshape(-1, min(width, CHOSEN))
    few = draws[..., _chosen(leaves, FEW)]
    flat = few.reshape(-1, few.shape[3])
    for size, of in ((3, chosen), (4, flat)):
        groups = list(combinations(range(of.shape[1]), size))
        if groups:
            sums = [int(of[:, list(group)].prod(1).sum(dtype=np.int64)) for group in groups]
            yield f"{size} coordinates", Family(sums, len(of))
    for lag in range(1, min(5, steps)):
        pairs = list(combinations(range(few.shape[3]), 2))
        if pairs:
            early = np.stack([few[..., a] * few[..., b] for a, b in pairs], -1)[:, :-lag]
            late = few[:, lag:].reshape(-1, few.shape[3]).astype(np.float32)
            sums = early.reshape(-1, len(pairs)).astype(np.float32).T @ late
            yield f"two coordinates and one {lag} steps later", Family(sums, len(late))
    sums, counts = [], []
    for late in range(2, min(17, steps)):
        for between in range(1, late):
            product = draws[:, late:] * draws[:, between : between - late] * draws[:, :-late]
            sums.append(product.sum(dtype=np.int64))
            counts.append(product.size)
    if sums:
        yield "a coordinate at three steps", Family(sums, counts)
    order = draws.reshape(runs, -1)
    parity = np.multiply.accumulate(order, axis=1, dtype=np.int8)
    sums, counts = [], []
    for window in WINDOWS:
        if window < order.shape[1]:
            product = parity[:, window:] * parity[:, :-window]
            sums.append(product.sum(dtype=np.int64))
            counts.append(product.size)
    yield "neighbours in the order of draws", Family(sums, counts)
    rows = draws.reshape(-1, width)
    prefixes = np.multiply.accumulate(rows, axis=1, dtype=np.int8).sum(0, dtype=np.int64)
    yield "products of all coordinates up to one", Family(prefixes, len(rows))
    whole = [rows[:, where].prod(1) for where in leaves.values() if where.stop > where.start]
    yield "products of leaves", Family([each.sum(dtype=np.int64) for each in whole], len(rows))


def _dispersions(draws: Any, leaves: Mapping[str, slice]) -> Iterator[tuple[str, float]]:
    """Yield log e-values of how often +1 and -1 are as many as chance makes them, or nearer."""
    groups: dict[str, Any] = {
        f"counts in '{name}'": draws[..., where].reshape(-1, where.stop - where.start)
        for name, where in leaves.items()
    }
    groups["counts among streams"] = np.moveaxis(draws, 2, 3).reshape(-1, draws.shape[2])
    groups["counts among steps"] = np.moveaxis(draws, 1, 3).reshape(-1, draws.shape[1])
    for name, rows in groups.items():
        size = rows.shape[1]
        if size < 4:
            continue
        distances = np.abs(rows.sum(1, dtype=np.int64))
        chances = _chances(size)
        near = int(np.searchsorted(np.cumsum(chances), 0.5))
        chance = float(chances[: near + 1].sum())
        within = int((distances <= 2 * near + size % 2).sum())
        yield name, _log_e_of(within, len(rows), chance)


def _chances(size: int) -> Any:
    """Return the chances that the sum of ``size`` signs is 0 or 1, ±2 or ±3, and so on."""
    log = np.array([math.lgamma(size + 1)] * (size + 1))
    k = np.arange(size + 1)
    gamma: Callable[[Any], Any] = np.vectorize(math.lgamma, otypes=[float])
    binomial = np.exp(log - gamma(k + 1.0) - gamma(size - k + 1.0) - size * math.log(2.0))
    folded = np.zeros(size // 2 + 1)
    for number, chance in zip(np.abs(2 * k - size) // 2, binomial, strict=True):
        folded[number] += chance
    return folded


def _log_e_of(successes: int, count: int, chance: float) -> float:
    """Return the log e-value of a mixture over all probabilities against one of them."""
    mixture = (
        math.lgamma(successes + 0.5)
        + math.lgamma(count - successes + 0.5)
        - math.lgamma(count + 1.0)
        - math.log(math.pi)
    )
    return mixture - successes * math.log(chance) - (count - successes) * math.log1p(-chance)
