"""Norms and sums on the way to a pair: at any size, of many trees at once, and by factors."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from jax import lax
from uoro_jax.factors import Outer, factored
from uoro_jax.norms import norms
from uoro_torch.lists import add_up, careful_norm, quick_norms

from uoro import load_backend
from uoro.algebra import norm

CPU = torch.device("cpu")


def _draw(*shape: int, seed: int = 0, dtype: Any = np.float32) -> Any:
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def _exact(*arrays: Any) -> float:
    """Take the norm as NumPy does, in float64 and scaled by the largest entry."""
    flat = np.concatenate([np.asarray(a).astype(np.complex128).reshape(-1) for a in arrays])
    largest = np.abs(flat).max(initial=0.0)
    return float(largest * np.linalg.norm(flat / largest)) if largest else 0.0


@pytest.fixture
def _double() -> Iterator[None]:
    with load_backend("jax").precision("float64"):
        yield


# Outer products, found in a trace of JAX.

W, H, G = jnp.asarray(_draw(4, 3)), jnp.asarray(_draw(3, seed=1)), jnp.asarray(_draw(4, seed=2))
Z = W + 1j * jnp.asarray(_draw(4, 3, seed=3))


def _pulled(function: Callable[[Any], Any], weights: Any, owed: Any = G) -> Callable[[], Any]:
    return lambda: jax.vjp(function, weights)[1](owed)[0]


FOUND: dict[str, Callable[[], Any]] = {
    "weights @ h": _pulled(lambda w: w @ H, W),
    "h @ weights": _pulled(lambda w: H @ w, W.T),
    "weights.T @ h": _pulled(lambda w: w.T @ H, W.T),
    "reshaped weights": _pulled(lambda w: w.reshape(4, 3) @ H, W.reshape(-1)),
    "a row of one batch": _pulled(lambda w: (H[None] @ w)[0], W.T),
    "complex numbers": _pulled(lambda w: w @ (H + 2j * H), Z, G + 1j * G[::-1]),
    "after a nonlinearity": _pulled(lambda w: jnp.tanh(w @ H), W),
}


@pytest.mark.parametrize("name", FOUND)
def test_what_a_product_owes_to_its_weights_is_found_to_be_an_outer_product(name: str) -> None:
    leaf, [piece] = factored(FOUND[name])
    assert isinstance(piece, Outer), piece
    np.testing.assert_array_equal(leaf, FOUND[name]())
    assert piece.left.size + piece.right.size == 7, "and by its factors, not by itself"
    entries = np.outer(np.asarray(piece.left).reshape(-1), np.asarray(piece.right).reshape(-1))
    gap = np.sort_complex(entries.reshape(-1)) - np.sort_complex(np.asarray(leaf).reshape(-1))
    assert np.abs(gap).max() < 1e-5, "each entry is one of the left times one of the right"
    assert (piece.laid is None) == (name == "reshaped weights"), "the rest can be followed"
    if piece.laid is not None:
        left, right = (np.asarray(each) for each in piece.laid)
        np.testing.assert_allclose(left * right, np.asarray(leaf), rtol=1e-6)


NOT_FOUND: dict[str, Callable[[], Any]] = {
    "weights used twice": _pulled(lambda w: w @ jnp.tanh(w.T @ G), W),
    "a sum over a batch": _pulled(lambda w: (w @ jnp.stack([H, 2 * H**2], 1)).sum(1), W),
    "one product after another": _pulled(lambda w: w @ H + jnp.tanh(w @ H), W),
    "weights entry by entry": _pulled(lambda w: w * 2.0, W, W),
    "a part of an outer product": lambda: jnp.outer(G, H)[1:] + 0.0,
    "a product with a batch axis": lambda: jnp.einsum("bi,bj->bij", W, W),
    "what is given": lambda: W,
    "a number": lambda: jnp.float32(2.0),
    "an argument without use": _pulled(lambda w: G, W),
}


@pytest.mark.parametrize("name", NOT_FOUND)
def test_what_is_no_outer_product_is_not_taken_for_one(name: str) -> None:
    leaf, [piece] = factored(NOT_FOUND[name])
    assert not isinstance(piece, Outer)
    np.testing.assert_array_equal(piece, NOT_FOUND[name]())
    np.testing.assert_array_equal(leaf, piece)


def test_a_literal_and_a_tree_come_back_as_they_were() -> None:
    made, pieces = factored(lambda: {"a": (1.0, W @ H), "b": [], "c": FOUND["weights @ h"]()})
    assert made["a"][0] == 1.0
    assert made["b"] == []
    assert [isinstance(piece, Outer) for piece in pieces] == [False, False, True]


def test_factors_are_found_under_vmap_and_within_a_scan() -> None:
    backend, seen = load_backend("jax"), list[Any]()

    def one(h: Any, g: Any) -> Any:
        _, pieces = factored(_pulled(lambda w: w @ h, W, g))
        seen.extend(pieces)
        _, (found,) = backend.with_norms(lambda: (_pulled(lambda w: w @ h, W, g)(),))
        return found

    rows, owed = _draw(5, 3, seed=7), _draw(5, 4, seed=8)
    wanted = [_exact(np.outer(g, h)) for h, g in zip(rows, owed, strict=True)]
    mapped = jax.vmap(one)(rows, owed)
    _, scanned = lax.scan(lambda carry, item: (carry, one(*item)), 0.0, (rows, owed))
    assert len(seen) >= 2
    assert all(isinstance(piece, Outer) for piece in seen)
    for got in (mapped, scanned, jax.jit(jax.vmap(one))(rows, owed)):
        np.testing.assert_allclose(got, wanted, rtol=1e-6)


# Norms in JAX.

SIZES = (0.0, 1e-30, 1e-18, 1.0, 1e18, 1e30)


PAIRS = [(a, b) for a in SIZES for b in SIZES if a * b == 0.0 or 1e-37 < a * b < 1e37]


@pytest.mark.parametrize(("left", "right"), PAIRS)
def test_norms_by_factors_are_right_at_any_size(left: float, right: float) -> None:
    """In float32, wherever the norm itself is one."""
    a, b = jnp.asarray(left * _draw(4)), jnp.asarray(right * _draw(5, seed=1))
    alone = jnp.asarray(1e-3 * _draw(6, seed=2))
    wanted = _exact(a) * _exact(b)
    product, sole, none = jax.jit(norms)([[Outer(a, b)], [alone], []])
    np.testing.assert_allclose(product, wanted, rtol=1e-5)
    np.testing.assert_allclose(sole, _exact(alone), rtol=1e-6)
    assert none == 0.0
    (both,) = norms([[Outer(a, b), alone]])
    np.testing.assert_allclose(both, math.hypot(wanted, _exact(alone)), rtol=1e-5)


def test_norms_of_very_different_sizes_do_not_disturb_each_other() -> None:
    trees = [[np.float32(size) * _draw(3, 7)] for size in SIZES]
    for got, (leaf,) in zip(jax.jit(norms)(trees), trees, strict=True):
        np.testing.assert_allclose(got, _exact(leaf), rtol=1e-6)


@pytest.mark.parametrize("wrong", [math.inf, -math.inf, math.nan])
def test_a_norm_of_what_is_not_finite_is_not_finite(wrong: float) -> None:
    bad, fine = np.array([1.0, wrong, 0.0], np.float32), np.ones(2, np.float32)
    zero = np.zeros(2, np.float32)
    found = norms([[bad], [fine, bad], [Outer(bad, fine)], [Outer(fine, bad)], [Outer(zero, bad)]])
    assert not np.isfinite(np.asarray(found)).any(), found
    others = norms([[bad], [fine], [Outer(fine, 2 * fine)]])[1:]
    np.testing.assert_allclose(others, [2**0.5, 4.0], rtol=1e-6)


@pytest.mark.parametrize("shape", [(2048,), (256, 8), (255, 9), (2, 1024), (12, 500), (130, 130)])
def test_squares_that_are_folded_first_add_up_to_the_same(shape: tuple[int, ...]) -> None:
    array = _draw(*shape)
    np.testing.assert_allclose(norms([[array]])[0], _exact(array), rtol=1e-6)


@pytest.mark.usefixtures("_double")
def test_norms_take_the_widest_of_their_dtypes() -> None:
    half, wide = jnp.full(3, 2.0, jnp.bfloat16), jnp.full(2, 1e-200, jnp.float64)
    backend = load_backend("jax")
    assert norm(backend, half).dtype == jnp.float32  # type: ignore[attr-defined]  # an array
    found: Any = backend.with_norms(lambda: (half, wide, {"a": half, "b": wide}))[1]
    np.testing.assert_allclose(found, [12**0.5, 2**0.5 * 1e-200, 12**0.5], rtol=1e-7)


def _primitives(jaxpr: Any) -> list[Any]:
    """List the equations of a trace, those within others too, but not those of branches."""
    found = list[Any]()
    for equation in jaxpr.eqns:
        found.append(equation)
        if equation.primitive.name != "cond":
            for value in equation.params.values():
                inner = getattr(value, "jaxpr", value)
                if hasattr(inner, "eqns"):
                    found += _primitives(inner)
    return found


def test_the_careful_way_stays_a_branch_under_vmap() -> None:
    """What is mapped over is asked as a whole; else both ways would be gone at every step."""
    rows = jnp.asarray(_draw(5, 4))
    found = _primitives(jax.make_jaxpr(jax.vmap(lambda row: norms([[row]])[0]))(rows).jaxpr)
    names = [equation.primitive.name for equation in found]
    assert names.count("cond") == 1, names
    assert "div" not in names
    assert "select_n" not in names
    (branch,) = (equation for equation in found if equation.primitive.name == "cond")
    assert branch.invars[0].aval.shape == (), "one question for all rows"
    (nested,) = jax.vmap(jax.vmap(lambda row: norms([[row]])))(rows[None])
    np.testing.assert_allclose(nested[0], np.linalg.norm(rows, axis=1), rtol=1e-6)


def test_a_row_that_needs_care_does_not_change_the_others() -> None:
    rows = _draw(4, 3) * np.array([[1.0], [1e-30], [0.0], [1e30]], np.float32)
    got = jax.vmap(lambda row: norms([[row]])[0])(rows)
    np.testing.assert_allclose(got, [_exact(row) for row in rows], rtol=1e-6)


# Sums and norms of lists in PyTorch.

LISTS = [[_draw(2, 3, seed=i, dtype=np.float64), _draw(4, seed=10 + i, dtype=np.float64)]
         for i in range(3)]  # fmt: skip


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("first", [1.0, -0.5, torch.tensor(1.0), torch.tensor(2.0).double()])
@pytest.mark.parametrize("second", [1.0, 0.0, np.float64(3.0), torch.tensor(-3.0)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.complex128], ids=str)
def test_lists_add_up_and_share_no_memory_with_what_was_given(
    dtype: Any, second: Any, first: Any, count: int
) -> None:
    lists = [[torch.tensor(leaf).to(dtype) for leaf in leaves] for leaves in LISTS[:count]]
    before = [[leaf.clone() for leaf in leaves] for leaves in lists]
    scalars = [first, second, 0.25][:count]
    total = add_up(scalars, lists)
    for index, leaf in enumerate(total):
        parts = [float(s) * leaves[index] for s, leaves in zip(scalars, LISTS, strict=False)]
        np.testing.assert_allclose(leaf.numpy(), np.asarray(sum(parts)), rtol=1e-5, atol=1e-6)
        assert leaf.dtype is dtype
        leaf.add_(1.0)
    for kept, leaves in zip(before, lists, strict=True):
        assert all(torch.equal(old, new) for old, new in zip(kept, leaves, strict=True))


def test_a_list_added_to_itself_is_doubled() -> None:
    leaf = torch.tensor([1.0, -2.0])
    (total,) = add_up([1.0, 1.0], [[leaf], [leaf]])
    assert total.tolist() == [2.0, -4.0]
    assert leaf.tolist() == [1.0, -2.0]


@pytest.mark.parametrize("scalar", [1.0, 0.5, torch.tensor(0.5)])
def test_combine_shares_no_memory_with_a_tree_that_is_given(scalar: Any) -> None:
    backend = load_backend("torch")
    for dtype in (torch.float32, torch.bfloat16):
        given = {"a": torch.ones(3, dtype=dtype), "b": torch.ones((), dtype=torch.float64)}
        for terms in ([(scalar, given)], [(scalar, given), (0.0, given)]):
            total = backend.combine(*terms)
            for name, leaf in total.items():
                leaf.zero_()
                assert given[name].all()
                assert leaf.dtype is given[name].dtype


def test_combine_in_bfloat16_meets_large_and_small_factors_without_overflow() -> None:
    backend = load_backend("torch")
    leaf = torch.full((3,), 2.0**-100, dtype=torch.bfloat16)
    total = backend.combine((2.0**120, leaf), (-(2.0**119), leaf))
    assert total.tolist() == [2.0**19] * 3


@pytest.mark.parametrize("size", [1e-30, 1e-13, 1e-11, 1.0, 1e14, 1e16, 1e30])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_quick_norms_are_right_or_are_not_given(dtype: Any, size: float) -> None:
    lists = [[size * torch.tensor(leaf).to(dtype) for leaf in leaves] for leaves in LISTS]
    wanted = [_exact(*(leaf.numpy() for leaf in leaves)) for leaves in lists]
    found = quick_norms(lists)
    assert (found is not None) == (1e-12 < size < 1e15)
    if found is not None:
        np.testing.assert_allclose(found, wanted, rtol=1e-6)
    for traced in (False, True):
        careful = [float(careful_norm(leaves, CPU, traced)) for leaves in lists]
        np.testing.assert_allclose(careful, wanted, rtol=1e-6)


def test_quick_norms_leave_to_others_what_they_are_not_made_for() -> None:
    ones = torch.ones(3)
    assert quick_norms([[ones], [ones, ones]]) == pytest.approx([3**0.5, 6**0.5])
    for odd in (
        torch.ones(3, dtype=torch.bfloat16),
        torch.ones(3, dtype=torch.float64),
        torch.ones(0),
        torch.zeros(3),
        torch.tensor([1.0, math.inf]),
        torch.tensor([1.0, math.nan]),
    ):
        assert quick_norms([[ones], [odd]]) is None
    assert quick_norms([[ones], []]) is None
    assert quick_norms([]) is None


@pytest.mark.parametrize("traced", [False, True])
def test_careful_norms_are_right_from_end_to_end_of_float64(traced: bool) -> None:
    for size in (1e-300, 1e-200, 1.0, 1e200, 1e300):
        leaves = [torch.tensor([3.0 * size, 0.0], dtype=torch.float64),
                  torch.tensor(-4.0 * size, dtype=torch.float64)]  # fmt: skip
        assert float(careful_norm(leaves, CPU, traced)) == pytest.approx(5.0 * size, rel=1e-14)
    assert float(careful_norm([], CPU, traced)) == 0.0
    assert float(careful_norm([torch.zeros(2), torch.zeros(0)], CPU, traced)) == 0.0
    for wrong in (math.inf, math.nan):
        for dtype in (torch.float32, torch.float64, torch.bfloat16):
            leaf = torch.tensor([1.0, wrong], dtype=dtype)
            assert not math.isfinite(float(careful_norm([leaf], CPU, traced)))
    mixed = [torch.full((2,), 3e30), torch.full((1,), 4e30, dtype=torch.float64),
             torch.ones(1, dtype=torch.bfloat16)]  # fmt: skip
    assert float(careful_norm(mixed, CPU, traced)) == pytest.approx(34**0.5 * 1e30, rel=1e-7)


def test_norms_of_mixed_trees_are_the_same_alone_and_together() -> None:
    backend = load_backend("torch")
    trees: list[Any] = [
        {"a": torch.ones(3, dtype=torch.bfloat16), "b": torch.full((2,), 1e-30)},
        torch.tensor([3.0 + 4.0j, 0.0]),
        torch.full((2,), 1e200, dtype=torch.float64),
        {"nothing": None},
    ]
    made, found = backend.with_norms(lambda: tuple(trees))
    assert all(one is other for one, other in zip(made, trees, strict=True))
    wanted = [3**0.5, 5.0, 2**0.5 * 1e200, 0.0]
    for tree, together, exact in zip(trees, found, wanted, strict=True):
        assert float(together) == pytest.approx(exact, rel=1e-7)
        assert float(norm(backend, tree)) == pytest.approx(exact, rel=1e-7)
