"""The pair in another dtype than the model: wider, narrower, and where there is none such."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest

from uoro import SGD, UORO, Learner, Streams, load_backend, unroll
from uoro.algebra import coordinates, repeat
from uoro.errors import SettingError
from uoro.models import GRU, SymbolModel

STEPS = 30
WIDE_AND_NARROW = [("bfloat16", "float32"), ("float32", "bfloat16"), ("float16", "float32")]
UNIT = {"bfloat16": 2.0**-8, "float16": 2.0**-11}


def model(name: str, dtype: str) -> tuple[Any, Any, Any, Any]:
    backend = load_backend(name)
    made = SymbolModel((GRU(6),), 4)
    params, state = (
        backend.from_host(backend.from_host(tree, dtype="float32"), dtype=dtype)
        for tree in made.init(np.random.default_rng(0))
    )
    return backend, backend.dynamics(partial(made.transition, backend.xp)), params, state


def items(backend: Any, count: int = STEPS) -> Any:
    symbols = np.random.default_rng(1).integers(0, 4, (2, count))
    return [backend.from_host({"symbol": a, "target": b}) for a, b in symbols.T]


def flat(backend: Any, tree: Any) -> np.ndarray[Any, Any]:
    """Lay a tree out as a row of float64 numbers."""
    row = coordinates(backend, repeat(backend, backend.from_host(tree, dtype="float32"), 1))
    numbers: np.ndarray[Any, Any] = np.asarray(backend.to_host(row), np.float64)[0]
    return numbers


def influence(name: str, dtype: str, estimator: UORO) -> tuple[Any, np.ndarray[Any, Any]]:
    """Go along with the params held, and give the memory and the last gradient."""
    backend, dynamics, params, state = model(name, dtype)
    carry = estimator.init(dynamics, params, state)
    step = backend.compile(partial(estimator.step, dynamics))
    for number, item in enumerate(items(backend)):
        signs = estimator.draw(partial(backend.random, backend.fold(backend.key(0), number)), state)
        carry, state, estimate = step(params, carry, state, item, signs)
    return carry, flat(backend, estimate.gradient)


@pytest.mark.parametrize("name", ["jax", "torch"])
@pytest.mark.parametrize(("dtype", "pair_dtype"), WIDE_AND_NARROW)
def test_the_pair_keeps_its_dtype_and_the_gradient_has_that_of_the_params(
    name: str, dtype: str, pair_dtype: Any
) -> None:
    backend, dynamics, params, state = model(name, dtype)
    learner = Learner(dynamics, UORO(pair_dtype=pair_dtype), SGD(1e-3), params, state)
    for item in items(backend, 3):
        estimate = learner.step(item)
        kinds = {
            what: {str(leaf.dtype).rpartition(".")[2] for _, leaf in backend.named_leaves(tree)}
            for what, tree in (
                ("pair", learner.carry), ("gradient", estimate.gradient),
                ("params", learner.params), ("state", learner.state),
            )
        }  # fmt: skip
        assert kinds.pop("pair") == {pair_dtype}
        assert list(kinds.values()) == [{dtype}] * 3


@pytest.mark.parametrize("name", ["jax", "torch"])
@pytest.mark.parametrize("rank", [1, 2])
def test_a_narrow_pair_gives_the_gradient_of_a_wide_one_to_its_rounding(
    name: str, rank: int
) -> None:
    _, wide = influence(name, "float32", UORO(rank=rank))
    _, narrow = influence(name, "float32", UORO(rank=rank, pair_dtype="bfloat16"))
    gap = np.linalg.norm(narrow - wide) / np.linalg.norm(wide)
    assert 0 < gap < STEPS**0.5 * UNIT["bfloat16"], gap


def test_a_wide_pair_of_narrow_params_is_not_rounded() -> None:
    backend = load_backend("jax")
    carry, _ = influence("jax", "bfloat16", UORO(pair_dtype="float32"))
    kept = flat(backend, carry.cotangent)
    rounded = flat(backend, backend.from_host(carry.cotangent, dtype="bfloat16"))
    assert np.mean(kept != rounded) > 0.5


@pytest.mark.parametrize("name", ["autograd", "jax", "torch"])
def test_streams_and_memory_t_take_it_too(name: str) -> None:
    backend, dynamics, params, state = model(name, "float32")
    estimator = Streams(UORO(pair_dtype="float16"), 2)
    learner = Learner(unroll(dynamics, 3), estimator, SGD(1e-3), params, repeat(backend, state, 2))
    symbols = np.random.default_rng(1).integers(0, 4, (2, 2, 3))
    learner.step({"symbol": symbols[0], "target": symbols[1]})
    kinds = {str(leaf.dtype).rpartition(".")[2] for _, leaf in backend.named_leaves(learner.carry)}
    assert kinds == {"float16"}


def test_what_there_is_not_is_refused() -> None:
    with pytest.raises(
        SettingError, match=r"pair dtype: expected one of 'bfloat16', 'float16'.*got 'int8'"
    ):
        UORO(pair_dtype="int8")  # type: ignore[arg-type]  # the point
    _, dynamics, params, state = model("autograd", "float32")
    with pytest.raises(SettingError, match=r"'autograd' lacks this dtype: NumPy has no such dtype"):
        UORO(pair_dtype="bfloat16").init(dynamics, params, state)
