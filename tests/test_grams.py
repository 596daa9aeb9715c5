"""Inner products and combinations of two stacks, as the reduction of joint pairs takes them."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import numpy as np
import pytest
from systems import MODELS, TINY_MODELS, build, entries, make_items
from uoro_jax.factors import Outer, factored

from uoro import Backend, JointUORO, load_backend, unroll
from uoro.algebra import coordinates, with_products

COUNT = 3


def _normal(backend: Backend, like: Any, seed: int) -> Any:
    generator = np.random.default_rng(seed)

    def draw(leaf: Any) -> Any:
        shape = (COUNT, *leaf.shape)
        drawn = generator.normal(size=shape)
        return drawn + 1j * generator.normal(size=shape) if backend.parts(leaf) == 2 else drawn

    zeros = backend.to_host(backend.zeros(like))
    return backend.from_host(jax.tree.map(draw, zeros))


def _pulled(backend: Backend, name: str, span: int) -> tuple[Any, Any]:
    """Give a function that pulls some tangents of the state back, and something of its kind."""
    model = (MODELS | TINY_MODELS)[name]
    dynamics, params, state = build(backend, model)
    inputs: Any = entries(backend, make_items(span), span)[0]
    if span > 1:
        dynamics, inputs = unroll(dynamics, span), backend.from_host(make_items(span))
    _, pullback = dynamics.vjp(params, state, inputs)
    tangents = _normal(backend, state, 1)

    def make(tangents: Any) -> Any:
        return backend.vmap(lambda one: pullback(one, None)[0])(tangents)

    return partial(make, tangents), params


@pytest.mark.parametrize(("name", "span"), [("stack", 1), ("gru", 2)])
def test_products_and_combinations_are_those_of_the_stacks_themselves(
    backend: Backend, name: str, span: int
) -> None:
    make, params = _pulled(backend, name, span)
    carried = _normal(backend, params, 2)

    @backend.compile
    def both(carried: Any, of_carried: Any, of_fresh: Any) -> Any:
        across, own, mixed = with_products(backend, carried, make)
        return across, own, mixed(of_carried, of_fresh)

    generator = np.random.default_rng(3)
    weights = [generator.normal(size=(COUNT - 1, COUNT)) for _ in range(2)]
    across, own, mixed = both(carried, *map(backend.from_host, weights))
    rows = [np.asarray(backend.to_host(coordinates(backend, each))) for each in (carried, make())]
    old, new = rows
    np.testing.assert_allclose(backend.to_host(across), old @ new.T, rtol=1e-10)
    np.testing.assert_allclose(backend.to_host(own), new @ new.T, rtol=1e-10)
    got = np.asarray(backend.to_host(coordinates(backend, mixed)))
    np.testing.assert_allclose(
        got, np.concatenate(weights, 1) @ np.concatenate(rows), rtol=1e-9, atol=1e-12
    )


def test_what_a_matrix_owes_is_not_written_out_in_jax() -> None:
    backend = load_backend("jax")
    make, params = _pulled(backend, "gru", 1)
    pieces = dict(
        zip([name for name, _ in backend.named_leaves(params)], factored(make)[1], strict=True)
    )
    laid: Any = {name: piece.laid for name, piece in pieces.items() if isinstance(piece, Outer)}
    for name in ("0/gates", "0/candidate"):
        left, right = laid[name]
        assert 1 in (left.shape[0], right.shape[0])
        leaf = dict(backend.named_leaves(make()))[name]
        np.testing.assert_allclose(np.asarray(left * right), np.asarray(leaf), rtol=1e-6)


@pytest.mark.parametrize("name", ["torch", "jax"])
def test_joint_pairs_stay_in_the_dtype_of_the_params(name: str) -> None:
    backend = load_backend(name)
    dynamics, params, state = build(backend, MODELS["gru"])
    params, state = (backend.from_host(tree, dtype="bfloat16") for tree in (params, state))
    estimator = JointUORO(2)
    carry = estimator.init(dynamics, params, state)
    item = entries(backend, make_items(1), 1)[0]
    signs = estimator.draw(partial(backend.random, backend.key(0)), state)
    after, _, estimate = backend.compile(partial(estimator.step, dynamics))(
        params, carry, state, item, signs
    )
    for tree, like in ((after, carry), (estimate.gradient, params)):
        pairs = zip(backend.named_leaves(tree), backend.named_leaves(like), strict=True)
        for (name, got), (_, wanted) in pairs:
            assert got.dtype == wanted.dtype, name
