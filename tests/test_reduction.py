"""The reduction of many pairs to few, alone: in both precisions, and where it is hard."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from uoro.estimators.reduction import (
    reduce_pairs,
    side_of_gram,
    side_of_rows,
    unit_rows,
    water_filling,
)

RANK = 2
PAIRS = 2 * RANK
WIDTHS = st.integers(1, 7)
SIZES = st.lists(st.sampled_from([0.0, 1e-12, 1e-3, 1.0, 1e6]), min_size=PAIRS, max_size=PAIRS)


def _factor(seed: int, width: int, sizes: list[float], repeated: bool, dtype: Any) -> Any:
    rows = np.random.default_rng(seed).normal(size=(PAIRS, width)) * np.array(sizes)[:, None]
    if repeated:
        rows[1], rows[3] = rows[0], -2.0 * rows[2]
    return rows.astype(dtype)


@pytest.mark.parametrize(("dtype", "allowed"), [(np.float64, 1e-12), (np.float32, 3e-4)])
@given(st.integers(0, 2**16), WIDTHS, WIDTHS, SIZES, SIZES, st.booleans(), st.booleans())
@example(0, 7, 7, [1.0] * PAIRS, [1.0] * PAIRS, True, True)
@example(0, 7, 7, [0.0] * PAIRS, [1.0] * PAIRS, False, False)
@example(0, 1, 5, [1.0] * PAIRS, [1e6, 1e-12, 1.0, 0.0], False, False)
@settings(max_examples=150, deadline=None, derandomize=True)
def test_it_is_unbiased_whatever_the_pairs(
    dtype: Any,
    allowed: float,
    seed: int,
    left: int,
    right: int,
    lefts: list[float],
    rights: list[float],
    repeated: bool,
    too: bool,
) -> None:
    """The mean over all signs is the sum; relative to the largest of the pairs."""
    tangents = _factor(seed, left, lefts, repeated, dtype)
    cotangents = _factor(seed + 1, right, rights, too, dtype)
    of_left, of_right = (side_of_rows(np, rows) for rows in (tangents, cotangents))
    if right > PAIRS:
        of_right = side_of_gram(np, cotangents @ cotangents.T)
    wanted = tangents.astype(float).T @ cotangents.astype(float)
    scale = float(np.linalg.norm(tangents, axis=1) @ np.linalg.norm(cotangents, axis=1))
    total, spread, signs = 0.0 * wanted, 0.0, list(product((-1.0, 1.0), repeat=PAIRS))
    for row in signs:
        made = reduce_pairs(np, of_left, of_right, np.array(row, dtype), RANK)
        got = (made.tangents @ tangents).astype(float).T @ (made.cotangents @ cotangents)
        assert np.isfinite(got).all()
        total += got / len(signs)
        spread += float(np.linalg.norm(got - wanted)) ** 2 / len(signs)
    assert np.linalg.norm(total - wanted) <= allowed * scale
    assert abs(spread - float(made.added)) <= 100 * allowed**0.5 * scale**2


@pytest.mark.parametrize("size", [1.0, 1e-2, 1e2])
def test_it_is_unbiased_whatever_the_inner_products_are_taken_to_be(size: float) -> None:
    generator = np.random.default_rng(5)
    tangents, cotangents, others = generator.normal(size=(3, PAIRS, 7))
    left, right = side_of_rows(np, tangents), side_of_gram(np, size * others @ others.T)
    mean = 0.0
    for row in product((-1.0, 1.0), repeat=PAIRS):
        made = reduce_pairs(np, left, right, np.array(row), RANK)
        mean += (made.tangents @ tangents).T @ (made.cotangents @ cotangents) / 2**PAIRS
    np.testing.assert_allclose(mean, tangents.T @ cotangents, atol=1e-12)


@pytest.mark.parametrize(("dtype", "allowed"), [(np.float64, 1e-12), (np.float32, 3e-4)])
def test_rounding_does_not_choose_the_sign_of_a_direction(dtype: Any, allowed: float) -> None:
    """Of fresh pairs, all singular vectors may sum to zero: the projections do.

    Without pairs carried from before, all is kept, and only the signs of the directions are free.
    """
    generator = np.random.default_rng(7)
    angles = 2.0 * np.pi * np.arange(3) / 3
    tangents = np.stack([0 * angles, 0 * angles, np.cos(angles), np.sin(angles)]).astype(dtype)
    cotangents = generator.normal(size=(PAIRS, 7)).astype(dtype)
    found = []
    for _ in range(100):
        moved = cotangents * (1.0 + np.finfo(dtype).eps * generator.choice((-1, 0, 1), (PAIRS, 7)))
        left, right = side_of_rows(np, tangents), side_of_rows(np, moved.astype(dtype))
        made = reduce_pairs(np, left, right, np.ones(PAIRS, dtype), RANK)
        found.append(made.tangents @ tangents)
    assert np.abs(np.array(found) - found[0]).max() <= allowed * np.abs(found[0]).max()


def test_inner_products_of_no_vectors_have_a_root_too() -> None:
    gram = np.array([[1.0, 0.9, -0.9], [0.9, 1.0, 0.9], [-0.9, 0.9, 1.0]])
    assert np.linalg.eigvalsh(gram)[0] < 0
    side = side_of_gram(np, gram)
    assert np.linalg.matrix_rank(side.root) == 3
    assert np.isfinite(side.root).all()


@pytest.mark.parametrize("width", [3, 7])
def test_numbers_that_are_not_finite_are_told_and_not_hidden(width: int) -> None:
    for wrong in (np.nan, np.inf):
        rows = np.ones((PAIRS, width))
        rows[1, 1] = wrong
        for side in (side_of_rows, lambda xp, rows: side_of_gram(xp, rows @ rows.T)):
            with np.errstate(invalid="ignore"):
                made = reduce_pairs(np, side(np, rows), side(np, rows), np.ones(PAIRS), 2)
            assert np.isnan(made.tangents).all()


@given(st.lists(st.just(0.0) | st.floats(1e-3, 1e6), min_size=1, max_size=9), st.integers(1, 9))
@example([1.0, 1.0, 1.0, 1.0], 2)
@example([0.0], 1)
@example([1e6, 1e-3, 1e-3], 2)
@settings(max_examples=300, deadline=None, derandomize=True)
def test_places_are_shared_out_in_full(values: list[float], rank: int) -> None:
    d = np.sort(np.array(values))[::-1]
    kept = water_filling(np, d, rank)
    assert (kept >= 0).all()
    assert (kept <= 1).all()
    assert kept[d > 0].sum() <= rank * (1 + 1e-12)
    tail = kept < 1
    if len(d) >= rank and d[tail].sum() > 0:
        assert kept.sum() == pytest.approx(rank, rel=1e-9)
        share = d[tail].sum() / kept[tail].sum()
        np.testing.assert_allclose(kept[tail] * share, d[tail], rtol=1e-6)
        # Whoever has a place alone would have had more than one by the common rule.
        assert (d[~tail] >= share * (1 - 1e-6)).all()
    rows = unit_rows(np, kept, rank)
    seen = kept > 0
    np.testing.assert_allclose(np.linalg.norm(rows[seen], axis=1), 1.0, rtol=1e-6)
    if kept.sum() == pytest.approx(rank, rel=1e-12):
        np.testing.assert_allclose((rows.T * kept) @ rows, np.eye(rank), atol=1e-6)
