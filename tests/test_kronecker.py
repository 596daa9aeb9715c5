"""Kronecker sums: unbiased by enumeration, exact at a high rank, with a structure that is found."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
import pytest
from systems import build, entries, jiggle, make_items, relative
from uoro_conformance import check_unbiased
from uoro_conformance.kronecker import check_mean_of_terms, check_terms_by_dense_reference
from uoro_conformance.mutants.wrong_kronecker import RIGHT_KRONECKER, WRONG_KRONECKER
from uoro_conformance.structure import check_broken_structure, check_factors
from uoro_conformance.systems import Trial
from uoro_conformance.terms import check_chain_of_terms, check_own_signs

from uoro import RTRL, SGD, UORO, Backend, KroneckerSum, Learner, Streams, load_backend
from uoro.algebra import entry
from uoro.derivatives.structure import factor
from uoro.errors import DerivativeError, NonFiniteError, SettingError, StructureError
from uoro.estimators.kronecker_carry import site_signs
from uoro.estimators.spelling import parse_estimator
from uoro.learning.host_noise import SharedNoise
from uoro.models import GRU, LSTM, SymbolModel, Tanh

ALPHABET = 5
SMALL = {
    "rnn": SymbolModel((Tanh(5),), ALPHABET),
    "gru": SymbolModel((GRU(4),), ALPHABET),
    "lstm": SymbolModel((LSTM(4),), ALPHABET),
    "stack": SymbolModel((GRU(4), GRU(4)), ALPHABET),
}


def _schedule(backend: Backend, model: Any, steps: int) -> tuple[Any, Any, Any, Any]:
    """Build a model whose params move from step to step."""
    dynamics, params, state = build(backend, model)
    host = backend.to_host(params)
    moved = [backend.from_host(jiggle(host, np.random.default_rng(step))) for step in range(steps)]
    return dynamics, moved, state, entries(backend, make_items(steps), steps)


# Unbiased.


THOROUGH = [pytest.param(name, marks=pytest.mark.thorough) for name in ("autograd", "jax")]


@pytest.mark.parametrize(("rank", "free"), [(1, 3), (2, 2), (3, 2)])
@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("on", ["torch", *THOROUGH])
def test_mean_over_all_signs_equals_rtrl(on: str, name: str, rank: int, free: int) -> None:
    """The first r steps have at most r terms, and nothing is left to chance."""
    _require_mean(on, name, rank, free)


@pytest.mark.parametrize(("name", "rank", "free"), [("rnn", 3, 1), ("gru", 2, 1), ("lstm", 1, 2)])
@pytest.mark.parametrize("on", ["autograd", "jax"])
def test_mean_over_fewer_signs_equals_rtrl(on: str, name: str, rank: int, free: int) -> None:
    _require_mean(on, name, rank, free)


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("on", ["torch", "jax"])
def test_mean_over_all_signs_equals_rtrl_with_leaves_that_share_d(on: str, name: str) -> None:
    _require_mean(on, name, 1, 1, group=True)


def _require_mean(on: str, name: str, rank: int, free: int, *, group: bool = False) -> None:
    backend = load_backend(on)
    with backend.precision("float64"):
        system = _schedule(backend, SMALL[name], rank + free)
        estimator = KroneckerSum(rank, group=group)
        finding = check_mean_of_terms(*system, estimator=estimator, fixed=rank, tolerance=1e-12)
        finding.require()


class Layered:
    """A layer whose sum is normalised, with a gain and a bias."""

    def init(self, generator: np.random.Generator) -> tuple[Any, Any]:
        params = {
            "W": generator.normal(size=(4, 4)),
            "U": generator.normal(size=(3, 4)),
            "gain": generator.normal(size=4),
            "bias": generator.normal(size=4),
        }
        return params, generator.normal(size=4)

    def transition(self, xp: Any, params: Any, state: Any, inputs: Any) -> tuple[Any, Any]:
        table = params["U"][xp.reshape(inputs["symbol"], (1,))][0]
        z = params["W"] @ state + table
        z = z - xp.mean(z)
        z = z / (xp.mean(z**2) + 1e-3) ** 0.5
        state = xp.tanh(params["gain"] * z + params["bias"])
        return state, xp.sum((state - inputs["target"]) ** 2)


class Tied:
    """A matrix that is used twice a step, and one that is used once."""

    def init(self, generator: np.random.Generator) -> tuple[Any, Any]:
        params = {"twice": generator.normal(size=(2, 2)), "once": generator.normal(size=(2, 2))}
        return params, generator.normal(size=2)

    def transition(self, xp: Any, params: Any, state: Any, inputs: Any) -> tuple[Any, Any]:
        inner = xp.tanh(params["twice"] @ state + params["once"] @ xp.cos(state))
        state = xp.tanh(params["twice"] @ inner + inputs["symbol"])
        return state, xp.sum((state - inputs["target"]) ** 2)


class Complex:
    """A complex state, a complex matrix that multiplies it, and a real one that enters it."""

    def init(self, generator: np.random.Generator) -> tuple[Any, Any]:
        def draw(*shape: int) -> Any:
            return generator.normal(size=shape) + 1j * generator.normal(size=shape)

        params = {"W": 0.3 * draw(3, 3), "B": generator.normal(size=(3, 4)), "decay": draw(3)}
        return params, draw(3)

    def transition(self, xp: Any, params: Any, state: Any, inputs: Any) -> tuple[Any, Any]:
        given = xp.cos(inputs["symbol"] * xp.cumsum(xp.abs(params["B"][0]) * 0 + 1, 0))
        state = params["W"] @ state + 0.1 * params["decay"] * state + params["B"] @ given
        return state, xp.sum((xp.abs(state) - inputs["target"]) ** 2)


@pytest.mark.parametrize("rank", [1, 2])
def test_mean_over_all_signs_equals_rtrl_with_layer_norm(backend: Backend, rank: int) -> None:
    system = _schedule(backend, Layered(), rank + 2)
    estimator = KroneckerSum(rank)
    check_mean_of_terms(*system, estimator=estimator, fixed=rank, tolerance=1e-12).require()


@pytest.mark.parametrize(("rank", "fixed"), [(1, 0), (2, 1)])
def test_mean_over_all_signs_equals_rtrl_with_complex_numbers(
    backend: Backend, rank: int, fixed: int
) -> None:
    system = _schedule(backend, Complex(), 2 + fixed)
    estimator = KroneckerSum(rank)
    finding = check_mean_of_terms(
        *system, estimator=estimator, fixed=fixed, fresh=2, tolerance=1e-12
    )
    finding.require()


def test_mean_over_all_signs_equals_rtrl_with_a_matrix_used_twice(backend: Backend) -> None:
    system = _schedule(backend, Tied(), 3)
    check_mean_of_terms(*system, estimator=KroneckerSum(1), tolerance=1e-12).require()


@pytest.mark.parametrize("on", ["torch", *THOROUGH])
def test_mean_over_all_signs_equals_rtrl_with_uoro_for_a_matrix_used_twice(on: str) -> None:
    backend = load_backend(on)
    with backend.precision("float64"):
        system = _schedule(backend, Tied(), 3)
        estimator = KroneckerSum(1, rest=UORO())
        check_mean_of_terms(*system, estimator=estimator, tolerance=1e-12).require()


# Structure.


def test_the_structure_is_told_leaf_by_leaf(backend: Backend) -> None:
    dynamics, params, state = build(backend, SMALL["gru"])
    item = entries(backend, make_items(1), 1)[0]
    told = KroneckerSum().structure(dynamics, params, state, item).describe().splitlines()
    assert told[0] == "leaf '0/bias' (12): few numbers, carried exactly."
    assert told[2] == "leaf '0/gates' (8 × 4): outer product, D of n × 8 and a of 4."
    assert told[3] == "leaf '0/input' (5 × 12): outer product, D of n × 12 and a of 5."
    assert told[4] == "leaf 'readout/bias' (5): does not reach the state."


def test_a_matrix_used_twice_is_refused_by_name_if_asked(backend: Backend) -> None:
    dynamics, params, state = build(backend, Tied())
    item = entries(backend, make_items(1), 1)[0]
    with pytest.raises(StructureError, match=r"leaf 'twice'.*Try rest='exact'"):
        KroneckerSum(rest="refuse").init(dynamics, params, state, inputs=item)


def test_structure_hidden_by_zeros_is_found(backend: Backend) -> None:
    """At a state and params of zero, most derivatives vanish."""
    dynamics, params, state = build(backend, SMALL["lstm"])
    params, state = (backend.map(lambda leaf: 0.0 * leaf, tree) for tree in (params, state))
    item = entries(backend, make_items(1), 1)[0]
    kinds = [leaf.kind for leaf in KroneckerSum().structure(dynamics, params, state, item)]
    assert kinds == ["outer", "outer", "exact", "outer", "exact", "none", "none"]


def _breaking(backend: Backend) -> tuple[Any, Any, Any]:
    """Build a model whose matrix acts a second time once the item says so."""
    xp = backend.xp

    def transition(params: Any, state: Any, x: Any) -> tuple[Any, Any]:
        inner = params["W"] @ state
        state = xp.tanh(inner + x * (params["W"] @ xp.tanh(inner)))
        return state, xp.sum(state**2) + xp.sum(params["W"])

    generator = np.random.default_rng(0)
    params = {"W": backend.from_host(generator.normal(size=(3, 3)))}
    return backend.dynamics(transition), params, backend.from_host(generator.normal(size=3))


@pytest.mark.parametrize("name", ["autograd", "torch"])
def test_a_model_that_breaks_its_structure_later_is_an_error_by_name(name: str) -> None:
    backend = load_backend(name)
    dynamics, params, state = _breaking(backend)
    estimator, still = KroneckerSum(1), backend.from_host(np.array(0.0))
    carry = _with_one_use(backend, estimator, dynamics, params, state, still)
    signs = estimator.draw(partial(backend.random, backend.key(0)), state)
    for _ in range(4):
        carry, state, _ = estimator.step(dynamics, params, carry, state, still, signs)
    moving = backend.from_host(np.array(1.0))
    with pytest.raises(DerivativeError, match=r"leaf 'W'.*an outer product"):
        estimator.step(dynamics, params, carry, state, moving, signs)


def test_a_compiled_model_that_breaks_its_structure_gives_nan() -> None:
    backend = load_backend("jax")
    with backend.precision("float64"):
        dynamics, params, state = _breaking(backend)
        estimator, still = KroneckerSum(1), backend.from_host(np.array(0.0))
        carry = _with_one_use(backend, estimator, dynamics, params, state, still)
        signs = estimator.draw(partial(backend.random, backend.key(0)), state)
        step = backend.compile(partial(estimator.step, dynamics))
        carry, state, estimate = step(params, carry, state, still, signs)
        assert np.isfinite(float(estimate.loss))
        _, _, estimate = step(params, carry, state, backend.from_host(np.array(1.0)), signs)
        assert np.isnan(float(estimate.loss))
        assert np.isnan(backend.to_host(estimate.gradient["W"])).all()


@pytest.mark.parametrize("together", [False, True], ids=["step by step", "run"])
def test_a_learner_names_the_leaf_whose_structure_broke(together: bool) -> None:
    backend = load_backend("jax")
    with backend.precision("float64"):
        dynamics, params, state = _breaking(backend)
        items = [backend.from_host(np.array(x)) for x in (0.0, 0.0, 1.0)]
        estimator, still = KroneckerSum(1), items[0]
        learner = Learner(dynamics, estimator, SGD(1e-3), params, state)
        carry = _with_one_use(backend, estimator, dynamics, params, state, still)
        learner.step(still)
        learner._stepper.progress = learner._stepper.progress._replace(carry=carry)
        with pytest.raises(NonFiniteError, match=r"leaf 'W'.*an outer product"):
            learner.run(items[1:]) if together else [learner.step(item) for item in items[1:]]


def _with_one_use(
    backend: Backend, estimator: KroneckerSum, dynamics: Any, params: Any, state: Any, item: Any
) -> Any:
    """Build the carry of a model of the same shapes, whose matrix is used once."""

    def once(params: Any, state: Any, x: Any) -> tuple[Any, Any]:
        state = backend.xp.tanh(params["W"] @ state)
        return state, backend.xp.sum(state)

    carry = estimator.init(backend.dynamics(once), params, state, inputs=item)
    assert "W" in carry.terms
    return carry


# Leaves that share D.


def test_leaves_that_share_d_are_told(backend: Backend) -> None:
    told = {
        "rnn": ["leaves '0/bias', '0/input' and '0/recurrent' share D."],
        "gru": ["leaves '0/bias' and '0/input' share D."],
        "lstm": ["leaves '0/map', '0/map_bias', '0/recurrent' and '0/recurrent_bias' share D."],
        "stack": [f"leaves '{i}/bias' and '{i}/input' share D." for i in range(2)],
    }
    for name, lines in told.items():
        dynamics, params, state, items = _schedule(backend, SMALL[name], 1)
        at = dynamics, params[0], state, items[0]
        described = KroneckerSum(group=True).structure(*at).describe().split("\n")
        assert [line for line in described if "share" in line] == lines
        assert "share" not in KroneckerSum().structure(*at).describe()


def test_leaves_that_share_d_need_fewer_numbers() -> None:
    backend = load_backend("autograd")
    dynamics, params, state, items = _schedule(backend, SymbolModel((LSTM(32),), 4), 1)

    def numbers(tree: Any) -> int:
        return sum(math.prod(leaf.shape) for _, leaf in backend.named_leaves(tree))

    def carried(estimator: KroneckerSum) -> int:
        return numbers(estimator.init(dynamics, params[0], state, inputs=items[0]))

    apart, together = carried(KroneckerSum()), carried(KroneckerSum(group=True))
    assert together < 5 * numbers(params[0])
    assert together < 0.6 * apart


def test_terms_of_leaves_that_share_d_are_those_of_a_dense_reduction(backend: Backend) -> None:
    for name in ("rnn", "lstm"):
        trial = Trial(*_schedule(backend, SMALL[name], 4))
        check_terms_by_dense_reference(trial, KroneckerSum(2, group=True)).require()


def _parting(backend: Backend) -> tuple[Any, Any, Any]:
    """Build a model whose two matrices share D until the item parts them."""
    xp = backend.xp

    def transition(params: Any, state: Any, x: Any) -> tuple[Any, Any]:
        given = params["U"] @ xp.cos(state)
        state = xp.tanh(params["W"] @ state + given) + x * given
        return state, xp.sum(state**2)

    generator = np.random.default_rng(0)
    params = {name: backend.from_host(generator.normal(size=(3, 3))) for name in "UW"}
    return backend.dynamics(transition), params, backend.from_host(generator.normal(size=3))


def _sharing(backend: Backend, dynamics: Any, params: Any, state: Any, item: Any) -> Any:
    """Build the carry of a model of the same shapes, in which D is shared."""

    def together(params: Any, state: Any, x: Any) -> tuple[Any, Any]:
        state = backend.xp.tanh(params["W"] @ state + params["U"] @ backend.xp.cos(state))
        return state, backend.xp.sum(state**2)

    estimator = KroneckerSum(1, group=True)
    carry = estimator.init(backend.dynamics(together), params, state, inputs=item)
    assert list(carry.terms) == ["U"]
    return carry


@pytest.mark.parametrize("name", ["autograd", "torch", "jax"])
def test_leaves_that_no_longer_share_d_are_an_error_by_name(name: str) -> None:
    backend = load_backend(name)
    with backend.precision("float64"):
        dynamics, params, state = _parting(backend)
        estimator = KroneckerSum(1, group=True)
        still, moving = (backend.from_host(np.array(number)) for number in (0.0, 1.0))
        carry = _sharing(backend, dynamics, params, state, still)
        signs = estimator.draw(partial(backend.random, backend.key(0)), state)
        carry, state, _ = estimator.step(dynamics, params, carry, state, still, signs)
        with pytest.raises(DerivativeError, match=r"leaves 'U' and 'W'.*through one sum"):
            estimator.step(dynamics, params, carry, state, moving, signs)


def test_compiled_leaves_that_no_longer_share_d_give_nan() -> None:
    backend = load_backend("jax")
    with backend.precision("float64"):
        dynamics, params, state = _parting(backend)
        estimator = KroneckerSum(1, group=True)
        still, moving = (backend.from_host(np.array(number)) for number in (0.0, 1.0))
        carry = _sharing(backend, dynamics, params, state, still)
        signs = estimator.draw(partial(backend.random, backend.key(0)), state)
        step = backend.compile(partial(estimator.step, dynamics))
        carry, state, estimate = step(params, carry, state, still, signs)
        assert np.isfinite(float(estimate.loss))
        _, _, estimate = step(params, carry, state, moving, signs)
        assert np.isnan(float(estimate.loss))


def test_a_model_that_does_not_share_d_is_not_said_to(backend: Backend) -> None:
    """At the item 0 it looks as if it did; the probe points beside it tell."""
    dynamics, params, state = _parting(backend)
    item = backend.from_host(np.array(0.0))
    assert not KroneckerSum(group=True).structure(dynamics, params, state, item).groups


# As the others.


def test_the_terms_are_those_of_a_dense_reduction(backend: Backend) -> None:
    dynamics, params, state, items = _schedule(backend, SMALL["rnn"], 4)
    trial = Trial(dynamics, params, state, items)
    for rank in (2,) if backend.compiled else (1, 2, 3):
        check_terms_by_dense_reference(trial, KroneckerSum(rank)).require()


def test_a_high_rank_is_exact(backend: Backend) -> None:
    dynamics, params, state, items = _schedule(backend, SMALL["gru"], 4)
    estimator, exact = KroneckerSum(5), RTRL()
    carry = estimator.init(dynamics, params[0], state, inputs=items[0])
    influence = exact.init(dynamics, params[0], state)
    signs = estimator.draw(partial(backend.random, backend.key(0)), state)
    for theta, item in zip(params, items, strict=True):
        carry, _, estimate = estimator.step(dynamics, theta, carry, state, item, signs)
        influence, state, wanted = exact.step(dynamics, theta, influence, state, item, None)
        assert relative(backend, estimate.gradient, wanted.gradient) < 1e-13


def test_streams_are_each_what_they_are_alone(backend: Backend) -> None:
    dynamics, params, state = build(backend, SMALL["gru"])
    one, streams = KroneckerSum(2), Streams(KroneckerSum(2), 3)
    states = backend.collect([backend.combine((scale, state)) for scale in (1.0, 0.5, -1.0)])
    items = [entries(backend, make_items(3, seed=number), 3) for number in range(3)]
    together = streams.init(dynamics, params, states, inputs=backend.collect(items[0]))
    alone = [
        one.init(dynamics, params, entry(backend, states, b), inputs=items[0][b]) for b in range(3)
    ]
    step = backend.compile(partial(streams.step, dynamics))
    step_one = backend.compile(partial(one.step, dynamics))
    for number, each in enumerate(items):
        key = backend.fold(backend.key(1), number)
        drawn = streams.draw(partial(backend.random, key), states)
        together, following, estimate = step(params, together, states, backend.collect(each), drawn)
        gradients = []
        for b in range(3):
            here = entry(backend, states, b), each[b], entry(backend, drawn, b)
            alone[b], _, found = step_one(params, alone[b], *here)
            gradients.append(found.gradient)
        mean = backend.combine(*((1 / 3, gradient) for gradient in gradients))
        assert relative(backend, estimate.gradient, mean) < 1e-12
        states = following


def test_settings_out_of_range_are_refused_by_name() -> None:
    for rank, rest, told in ((0, "exact", "rank"), (2, "some", "rest"), (2, object(), "rest")):
        with pytest.raises((SettingError, StructureError), match=told):
            KroneckerSum(rank, rest=rest)  # type: ignore[arg-type]  # on purpose
    with pytest.raises(SettingError, match="group"):
        KroneckerSum(group="yes")  # type: ignore[arg-type]  # on purpose
    backend = load_backend("autograd")
    dynamics, params, state = build(backend, SMALL["rnn"])
    with pytest.raises(SettingError, match="Pass inputs=item"):
        KroneckerSum().init(dynamics, params, state)


@pytest.mark.parametrize("on", ["autograd", "torch", "jax"])
def test_a_learner_learns_is_saved_and_goes_on_bit_for_bit(on: str) -> None:
    backend = load_backend(on)
    dynamics, params, state = build(backend, SMALL["gru"])

    def make() -> Learner:
        return Learner(dynamics, KroneckerSum(1), SGD(1e-2), params, state, seed=3)

    items = entries(backend, make_items(6), 6)
    whole, first = make(), make()
    whole.run(items)
    first.run(items[:3])
    second = make()
    second.restore(first.export(), inputs=items[3])
    second.run(items[3:])
    for (_, got), (_, wanted) in zip(
        backend.named_leaves(backend.to_host(second.params)),
        backend.named_leaves(backend.to_host(whole.params)),
        strict=True,
    ):
        np.testing.assert_array_equal(got, wanted)


# The suite on itself.


@pytest.fixture(scope="module")
def moved() -> tuple[Any, Any, Any, Any]:
    return _schedule(load_backend("torch"), SMALL["gru"], 5)


@pytest.mark.parametrize("mutant", WRONG_KRONECKER, ids=lambda mutant: str(mutant.estimator.name))
def test_each_wrong_one_is_refused(moved: Any, mutant: Any) -> None:
    estimator, trial = mutant.estimator, Trial(*moved)
    if mutant.killed_by == "mean":
        finding = check_mean_of_terms(*moved, estimator=estimator, fixed=estimator.rank)
        assert (finding.verdict, finding.gap > 1e-3) == ("biased", True), finding
        assert check_chain_of_terms(trial, estimator).verdict == "biased"
        return
    check_chain_of_terms(trial, estimator).require()
    if mutant.killed_by == "signs":
        assert check_own_signs(trial, estimator).verdict == "not Algorithm 1"
        return
    for name in ("autograd", "torch", "jax"):
        backend = load_backend(name)
        with backend.precision("float64"):
            finding = check_broken_structure(backend, "float64", estimator)
            assert finding.verdict == "biased", finding


@pytest.mark.parametrize("variant", RIGHT_KRONECKER, ids=lambda variant: str(variant.name))
def test_no_right_one_is_refused(moved: Any, variant: Any) -> None:
    check_mean_of_terms(*moved, estimator=variant, fixed=variant.rank).require()
    trial = Trial(*moved)
    check_chain_of_terms(trial, variant).require()
    check_own_signs(trial, variant).require()
    check_unbiased(trial, variant).require()
    check_broken_structure(load_backend("torch"), "float64", variant).require()


def test_factors_that_are_not_the_jacobian_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A leaf that is called an outer product, wrongly, at the model check."""
    system = Trial(*_schedule(load_backend("autograd"), Tied(), 2))
    check_factors(system, KroneckerSum()).require()
    for place in ("structure", "jacobians"):
        monkeypatch.setattr(f"uoro.derivatives.{place}.rounding", lambda *trees: 1e30)
    again = Trial(*_schedule(load_backend("autograd"), Tied(), 2))
    assert check_factors(again, KroneckerSum()).verdict == "broken"


def test_sites_have_signs_of_their_own() -> None:
    backend = load_backend("autograd")
    state = {"h": np.zeros(3)}
    signs = KroneckerSum(2).draw(partial(backend.random, backend.key(1)), state).terms
    for count in (3, 6, 9):
        vectors = site_signs(backend, signs, count)
        assert len(vectors) == count
        assert all(abs(vector).min() == 1.0 for vector in vectors)
    drawn = [
        KroneckerSum(2).draw(partial(backend.random, backend.key(seed)), state).terms
        for seed in range(400)
    ]
    found = np.array([site_signs(backend, each, 9) for each in drawn])
    first = found[:, :, 0]
    correlations = first.T @ first / len(first) - np.eye(9)
    assert abs(correlations).max() < 0.25


def test_names_on_the_command_line() -> None:
    assert parse_estimator("kron").estimator == KroneckerSum(2)
    assert parse_estimator("kron:3,rest=uoro").estimator == KroneckerSum(3, rest=UORO())
    assert parse_estimator("kron:3,group=yes").estimator == KroneckerSum(3, group=True)
    with pytest.raises(SettingError, match="expected one rank"):
        parse_estimator("kron:3,4")


def test_signs_drawn_on_the_host_are_the_same_for_every_backend() -> None:
    signs = SharedNoise(KroneckerSum(2, rest=UORO()).draw, {"h": np.zeros(4)}, seed=0)
    first, second = signs.take(2).terms["h"]
    assert (first.shape, np.unique(first).tolist()) == ((2, 4, 4), [-1.0, 1.0])
    assert (first != second).any()
    signs.seek(0)
    again = next(signs)
    assert (again.terms["h"] == first).all()
    assert again.rest["h"].shape == (4,)


@pytest.mark.parametrize("shape", [(5, 3), (1, 5, 3), (5, 1, 3)])
def test_factors_are_found_whatever_axes_of_length_one_there_are(shape: tuple[int, ...]) -> None:
    """The axes of length one belong to neither factor once they are read off a carry."""
    generator = np.random.default_rng(0)
    long = [i for i, size in enumerate(shape) if size > 1]
    for inputs, outputs in (long, long[::-1]):
        d, a = (np.ones_like(shape) for _ in range(2))
        d[outputs], a[inputs] = shape[outputs], shape[inputs]
        left, right = generator.normal(size=(4, *d)), generator.normal(size=a)
        found, direction, gap = factor(np, left * right, (inputs,))
        assert gap < 1e-14
        np.testing.assert_allclose(found * direction, left * right, atol=1e-14)
