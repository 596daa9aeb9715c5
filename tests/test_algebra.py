"""The vector algebra of each backend at the edges of its dtypes."""

from __future__ import annotations

import math
from functools import partial
from operator import methodcaller
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from systems import MODELS, build, entries, make_items

from uoro import UORO, Backend, load_backend
from uoro.algebra import basis, norm
from uoro.backend import Distribution
from uoro.errors import StructureError


@pytest.mark.parametrize("scale", [1.0, 1e-300, 1e300, 1e-160, 1e155, 5e-320])
def test_norm_in_float64_neither_overflows_nor_underflows(backend: Backend, scale: float) -> None:
    tree = {"a": np.array([3.0, 0.0]) * scale, "b": np.array([[4.0]]) * scale}
    got = float(norm(backend, backend.from_host(tree)))
    flushed = backend.name == "jax" and scale < 1e-307  # XLA flushes subnormal numbers to zero
    assert got == (
        0.0 if flushed else pytest.approx(5.0 * scale, rel=1e-3 if scale < 1e-307 else 1e-14)
    )


@pytest.mark.parametrize("scale", [1.0, 1e-30, 1e30, 1e-25, 1e37])
def test_norm_in_float32_neither_overflows_nor_underflows(backend: Backend, scale: float) -> None:
    with backend.precision("float32"):
        tree = {
            "a": np.array([3, 0], np.float32) * np.float32(scale),
            "b": np.array([4], np.float32) * np.float32(scale),
        }
        got = float(norm(backend, backend.from_host(tree)))
    assert got == pytest.approx(5.0 * scale, rel=1e-6)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("scale", [1.0, 1e-4, 1e4])
def test_norm_of_half_precision_leaves(dtype: str, scale: float) -> None:
    for name, leaf in (
        ("torch", torch.full((400,), scale, dtype=getattr(torch, dtype))),
        ("jax", jnp.full((400,), scale, dtype)),
    ):
        got = float(norm(load_backend(name), {"a": leaf}))
        assert got == pytest.approx(20.0 * scale, rel=2e-3 if dtype == "float16" else 1e-2), name


@pytest.mark.parametrize("value", [0.0, math.inf, math.nan])
def test_norm_of_zero_infinity_and_nan(backend: Backend, value: float) -> None:
    got = float(norm(backend, backend.from_host({"a": np.array([value, 0.0])})))
    assert got == value or (math.isnan(got) and math.isnan(value))


def _cast(tree: Any, cast: Any) -> Any:
    if isinstance(tree, dict):
        return {name: _cast(part, cast) for name, part in tree.items()}
    return cast(tree)


@pytest.mark.parametrize("name", ["torch", "jax"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_uoro_runs_in_low_precision_and_stays_finite(name: str, dtype: str) -> None:
    backend = load_backend(name)
    dynamics, params, state = build(backend, MODELS["gru"])
    kind = dtype if name == "jax" else getattr(torch, dtype)
    cast: Any = partial(jnp.asarray, dtype=kind) if name == "jax" else methodcaller("to", kind)
    params, state = _cast(params, cast), _cast(state, cast)
    estimator = UORO()
    carry = estimator.init(dynamics, params, state)
    advance = backend.compile(partial(estimator.step, dynamics))
    for step, item in enumerate(entries(backend, make_items(20), 20)):
        signs = backend.random(backend.fold(backend.key(0), step), state, "signs")
        carry, state, estimate = advance(params, carry, state, item, signs)
    for path, leaf in backend.named_leaves(estimate.gradient):
        assert dtype in str(leaf.dtype), path
    length = float(norm(backend, estimate.gradient))
    assert math.isfinite(length)
    assert length > 0


@pytest.mark.parametrize("law", ["signs", "gaussian", "spherical"])
def test_draws_have_identity_covariance(backend: Backend, law: Distribution) -> None:
    """20,000 draws of four coordinates: second moments within five standard errors."""
    like = backend.from_host({"a": np.zeros(3), "b": np.zeros(())})
    draws = backend.to_host(backend.random(backend.key(3), like, law, (20000,)))
    rows = np.column_stack([draws["a"], draws["b"]])
    moment = rows.T @ rows / len(rows)
    np.testing.assert_allclose(moment, np.eye(4), atol=5 * math.sqrt(2 / len(rows)))
    if law == "signs":
        assert set(np.unique(rows)) == {-1.0, 1.0}
    if law == "spherical":
        np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 2.0, rtol=1e-12)


def test_draws_are_functions_of_their_key(backend: Backend) -> None:
    like = backend.from_host(np.zeros(64))
    key = backend.key(5)
    one, two, three = (
        backend.to_host(backend.random(backend.fold(key, number), like, "signs"))
        for number in (0, 0, 1)
    )
    np.testing.assert_array_equal(one, two)
    assert not np.array_equal(one, three)


def test_map_refuses_trees_of_different_structure(backend: Backend) -> None:
    a = backend.from_host({"a": np.zeros(2)})
    b = backend.from_host({"b": np.zeros(2)})
    with pytest.raises(StructureError, match=r"backend\.map"):
        backend.map(lambda x, y: x + y, a, b)


def test_basis_is_the_identity_in_the_order_of_the_leaves(backend: Backend) -> None:
    like = backend.from_host({"a": np.zeros((2, 1)), "b": np.zeros(3)})
    units = backend.to_host(basis(backend, like))
    assert units["a"].shape == (5, 2, 1)
    np.testing.assert_array_equal(
        np.concatenate([units["a"].reshape(5, 2), units["b"]], 1), np.eye(5)
    )


@pytest.mark.parametrize("reverse", [False, True])
def test_scan_runs_along_the_stack(backend: Backend, reverse: bool) -> None:
    items = backend.from_host(np.array([1.0, 2.0, 4.0]))
    last, outputs = backend.scan(
        lambda carry, item: (2.0 * carry + item, carry),
        backend.from_host(np.array(0.0)),
        items,
        reverse=reverse,
    )
    assert float(last) == (21.0 if reverse else 12.0)
    wanted = [10.0, 4.0, 0.0] if reverse else [0.0, 1.0, 4.0]
    np.testing.assert_array_equal(backend.to_host(outputs), wanted)
