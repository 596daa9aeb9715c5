"""What uses the locality of a model: BlockRTRL, SnAp-1, and the diagonal baseline of pairs."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
from systems import build, entries, jiggle, make_items, relative
from uoro_conformance.beside import check_mean_beside
from uoro_conformance.cells import EVERY_KIND
from uoro_conformance.declared import check_declaration, check_unbiased
from uoro_conformance.mutants.wrong_local import WRONG_BASELINES
from uoro_conformance.systems import System, Trial

from uoro import RTRL, SGD, UORO, Backend, JointUORO, Learner, Streams, load_backend
from uoro.algebra import entry
from uoro.derivatives.finding_locality import find_locality
from uoro.derivatives.locality import Units
from uoro.errors import DerivativeError, SettingError, StructureError
from uoro.estimators import BlockRTRL, SnAp
from uoro.estimators.local_influence import at_units
from uoro.estimators.spelling import parse_estimator
from uoro.models import ELSTM, GRU, LRU, LSTM, RTU, MinGRU, SymbolModel, Tanh

CELLS: dict[str, Any] = {"lru": LRU(3), "rtu": RTU(3), "mingru": MinGRU(3), "elstm": ELSTM(3)}


def _trial(backend: Backend, model: Any, steps: int) -> Trial:
    """Build a model whose params move from step to step."""
    dynamics, params, state = build(backend, model)
    host = backend.to_host(params)
    moved = [
        backend.from_host(jiggle(host, np.random.default_rng(step), 0.02)) for step in range(steps)
    ]
    return Trial(dynamics, moved, state, entries(backend, make_items(steps), steps))


# BlockRTRL.


@pytest.mark.parametrize("steps", [100, pytest.param(1000, marks=pytest.mark.thorough)])
@pytest.mark.parametrize("cell", CELLS)
def test_block_rtrl_is_rtrl(backend: Backend, cell: str, steps: int) -> None:
    trial = _trial(backend, SymbolModel((CELLS[cell],), 3), steps)
    finding = check_unbiased(trial, BlockRTRL()).require()
    assert finding.gap <= 1e-12


@pytest.mark.parametrize("cell", [LRU(40), RTU(40), MinGRU(40), ELSTM(40)], ids=str)
@pytest.mark.parametrize("on", ["autograd", "torch", "jax"])
def test_rounding_of_float32_is_no_mixing(on: str, cell: Any) -> None:
    """From the zero state, where small entries are no more than what rounding leaves."""
    backend, model = load_backend(on), SymbolModel((cell,), 4)
    numbers = model.init(np.random.default_rng(0))
    dynamics = backend.dynamics(partial(model.transition, backend.xp))
    with backend.precision("float32"):
        params, state = (backend.from_host(tree, dtype="float32") for tree in numbers)
        items = entries(backend, make_items(8), 8)
        trial = Trial(dynamics, [params] * 8, state, items)
        check_unbiased(trial, BlockRTRL()).require()
        check_unbiased(trial, SnAp()).require()
        locality = find_locality(*trial.first)
    assert not locality.mixes
    assert not any(leaf.mixes for leaf in locality.leaves)


class Blocks:
    """A recurrence of two blocks of three coordinates; each block has a matrix of its own."""

    def init(self, generator: np.random.Generator) -> tuple[Any, Any]:
        params = {
            "W": generator.normal(size=(2, 3, 3)) / 2.0,
            "bias": generator.normal(size=(2, 3)),
            "readout": generator.normal(size=(2, 3)),
        }
        return params, generator.normal(size=(2, 3))

    def transition(self, xp: Any, params: Any, state: Any, inputs: Any) -> tuple[Any, Any]:
        whole = xp.sum(params["W"] * state[:, None, :], 2) + params["bias"]
        state = xp.tanh(whole + inputs["symbol"] * 0.5)
        return state, (xp.sum(params["readout"] * state) - inputs["target"]) ** 2


def test_blocks_of_a_state_are_units(backend: Backend) -> None:
    trial = _trial(backend, Blocks(), 20)
    check_unbiased(trial, BlockRTRL()).require()
    locality = BlockRTRL().structure(*trial.first)
    assert [colour.units for colour in locality.colours] == [(2,)] * 3


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        ((LSTM(3),), "units of leaf '0/h' that move other units"),
        ((GRU(3),), r"a relative difference of 0\.\d+"),
        ((LRU(3), LRU(3)), "move other units"),
    ],
)
def test_units_that_mix_are_refused_with_the_size(backend: Backend, cells: Any, said: str) -> None:
    trial = _trial(backend, SymbolModel(cells, 3), 1)
    with pytest.raises(StructureError, match=said) as raised:
        trial.carry_of(BlockRTRL())
    assert "relative difference of" in str(raised.value)
    assert "Try KroneckerSum(2)" in str(raised.value)


def test_a_parameter_of_all_units_is_refused_by_name() -> None:
    backend = load_backend("autograd")
    dynamics = backend.dynamics(
        lambda params, s, x: (params["decay"] * s + x, backend.xp.sum(s)), check=False
    )
    params = {"decay": np.array(0.5)}
    with pytest.raises(StructureError, match=r"leaf 'decay' of the params.*several units"):
        BlockRTRL().init(dynamics, params, np.ones(3), inputs=np.ones(3))


def _mixes_later(xp: Any, params: Any, state: Any, inputs: Any) -> tuple[Any, Any]:
    """Mix units, or let a parameter of one or of none move all, where an item says so."""
    mixed = inputs["mix"] * xp.sum(state) + inputs["share"] * xp.sum(params["a"])
    mixed = mixed + inputs["reach"] * params["readout"]
    state = params["a"] * state + inputs["x"] + mixed
    return state, xp.sum(params["readout"] * state**2)


@pytest.mark.parametrize("broken", ["mix", "share", "reach"])
def test_a_model_that_mixes_later_is_an_error(backend: Backend, broken: str) -> None:
    dynamics = backend.dynamics(partial(_mixes_later, backend.xp), check=False)
    params = backend.from_host({"a": np.array([0.5, 0.7, 0.9]), "readout": np.ones(3)})
    state = backend.from_host(np.array([0.3, -0.2, 0.5]))
    item = {"x": np.ones(3)} | {name: np.array(0) for name in ("mix", "share", "reach")}
    good, bad = (backend.from_host(item | extra) for extra in ({}, {broken: np.array(1)}))
    estimator = BlockRTRL()
    carry = estimator.init(dynamics, params, state, inputs=good)
    step = backend.compile(
        lambda params, carry, state, item: estimator.step(
            dynamics, params, carry, state, item, None
        )
    )
    carry, state, _ = step(params, carry, state, good)
    if backend.compiled:
        _, _, estimate = step(params, carry, state, bad)
        assert np.isnan(float(estimate.loss))
        assert np.isnan(backend.to_host(estimate.gradient)["a"]).all()
    else:
        with pytest.raises(DerivativeError, match="expected units that do not mix"):
            step(params, carry, state, bad)


@pytest.mark.parametrize("on", ["torch", "jax"])
def test_a_model_with_a_gradient_stopped_has_its_own_exact_gradient(on: str) -> None:
    """The rule of the LSTM of 1997: h is stopped where it enters the gates."""
    backend, kind = load_backend(on), EVERY_KIND["lstm"]

    def transition(params: Any, state: Any, item: Any) -> Any:
        h = state["0"]["h"]
        stopped = {"0": {"c": state["0"]["c"], "h": h.detach() if on == "torch" else _stop(h)}}
        return kind.transition(backend.xp, params, stopped, item)

    with backend.precision("float64"):
        whole = System("lstm", 3, 10).build(backend)
        dynamics = backend.dynamics(transition, check=False)
        trial = Trial(dynamics, whole.params, whole.state, whole.items)
        check_unbiased(trial, BlockRTRL()).require()
        with pytest.raises(StructureError, match="move other units"):
            whole.carry_of(BlockRTRL())


def _stop(h: Any) -> Any:
    from jax.lax import stop_gradient

    return stop_gradient(h)


def test_a_carry_of_another_model_is_refused() -> None:
    backend = load_backend("autograd")
    trial = _trial(backend, SymbolModel((RTU(3),), 3), 1)
    other = _trial(backend, SymbolModel((RTU(2),), 3), 1)
    dynamics, params, state, item = trial.first
    with pytest.raises(StructureError, match="Make the carry anew by init"):
        BlockRTRL().step(dynamics, params, other.carry_of(BlockRTRL()), state, item, None)
    with pytest.raises(StructureError, match="Make the carry anew by init"):
        SnAp().step(dynamics, params, other.carry_of(SnAp()), state, item, None)
    with pytest.raises(SettingError, match="Pass inputs=item"):
        BlockRTRL().init(dynamics, params, state)


@pytest.mark.parametrize("estimator", [BlockRTRL(), SnAp(), UORO(baseline="diagonal")])
def test_a_late_gradient_is_that_of_the_step(backend: Backend, estimator: Any) -> None:
    trial = _trial(backend, SymbolModel((RTU(3),), 3), 3)
    carry, state = trial.carry_of(estimator), trial.state
    for params, item in zip(trial.params, trial.items, strict=True):
        signs = estimator.draw(partial(backend.random, backend.key(0)), state)
        before = carry, state, item
        carry, state, made = estimator.advance(trial.dynamics, params, *before, signs)
        at_once = made.gradient(0.7)
        late = estimator.gradient(trial.dynamics, params, *before, 0.7)
        assert relative(backend, late, at_once) < 1e-12


@pytest.mark.parametrize("written", ["block", "snap", "joint:2,baseline=diagonal"])
def test_streams_are_each_what_they_are_alone(backend: Backend, written: str) -> None:
    one = parse_estimator(written).estimator
    streams = Streams(one, 2)
    trial = _trial(backend, SymbolModel((RTU(2),), 3), 3)
    dynamics, params, state, _ = trial.first
    states = backend.collect([backend.combine((scale, state)) for scale in (1.0, -0.5)])
    items = [entries(backend, make_items(3, seed=number), 2) for number in range(3)]
    together = streams.init(dynamics, params, states, inputs=backend.collect(items[0]))
    alone = [
        one.init(dynamics, params, entry(backend, states, b), inputs=items[0][b]) for b in range(2)
    ]
    step = backend.compile(partial(streams.step, dynamics))
    step_one = backend.compile(partial(one.step, dynamics))
    for number, each in enumerate(items):
        key = backend.fold(backend.key(1), number)
        drawn = streams.draw(partial(backend.random, key), states)
        together, following, estimate = step(params, together, states, backend.collect(each), drawn)
        gradients = []
        for b in range(2):
            signs = None if drawn is None else entry(backend, drawn, b)
            here = entry(backend, states, b), each[b], signs
            alone[b], _, found = step_one(params, alone[b], *here)
            gradients.append(found.gradient)
        mean = backend.combine(*((0.5, gradient) for gradient in gradients))
        assert relative(backend, estimate.gradient, mean) < 1e-12
        states = following


@pytest.mark.parametrize("written", ["block", "uoro:baseline=diagonal"])
@pytest.mark.parametrize("on", ["autograd", "jax"])
def test_a_learner_resumes_bit_for_bit(on: str, written: str) -> None:
    backend = load_backend(on)
    model = SymbolModel((ELSTM(3),), 3)
    params, state = model.init(np.random.default_rng(0))
    dynamics = backend.dynamics(partial(model.transition, backend.xp))

    def learner() -> Any:
        estimator = parse_estimator(written).estimator
        return Learner(dynamics, estimator, SGD(0.1), params, state, seed=3)

    items = entries(backend, make_items(6), 6)
    whole, stopped, resumed = learner(), learner(), learner()
    whole.run(items)
    stopped.run(items[:3])
    resumed.restore(stopped.export(), inputs=items[3])
    resumed.run(items[3:])
    for (_, one), (_, other) in zip(
        backend.named_leaves(whole.params), backend.named_leaves(resumed.params), strict=True
    ):
        np.testing.assert_array_equal(backend.to_host(one), backend.to_host(other))


# SnAp-1.


@pytest.mark.parametrize("cell", ["lru", "elstm"])
def test_snap_is_exact_where_units_do_not_mix(backend: Backend, cell: str) -> None:
    trial = _trial(backend, SymbolModel((CELLS[cell],), 3), 20)
    check_unbiased(trial, SnAp()).require()


@pytest.mark.parametrize("cell", [GRU(3), LSTM(3), Tanh(4)])
def test_snap_is_a_masked_recursion(cell: Any) -> None:
    """The reference masks the dense influence by what moves one unit alone."""
    backend = load_backend("autograd")
    trial = _trial(backend, SymbolModel((cell,), 3), 6)
    n, estimator, exact = _size(backend, trial.state), SnAp(), RTRL()
    units = cell.units
    carry, state = trial.carry_of(estimator), trial.state
    zeros = exact.init(trial.dynamics, trial.params[0], trial.state)
    names = [name for name, _ in backend.named_leaves(trial.params[0])]
    influence = {name: 0.0 * np.asarray(leaf) for name, leaf in backend.named_leaves(zeros)}
    same_unit = np.equal.outer(np.arange(n) % units, np.arange(n) % units)
    for params, item in zip(trial.params, trial.items, strict=True):
        jacobian, fresh = _dense(backend, trial.dynamics, params, state, item, n)
        _, pullback = trial.dynamics.vjp(params, state, item)
        immediate, cotangent = pullback(None, 1.0)
        row = np.concatenate([leaf for _, leaf in backend.named_leaves(cotangent)])
        wanted = {
            name: leaf + np.tensordot(row, influence[name], 1)
            for name, leaf in backend.named_leaves(immediate)
        }
        carry, state, estimate = estimator.step(trial.dynamics, params, carry, state, item, None)
        got = dict(backend.named_leaves(estimate.gradient))
        assert relative(backend, got, wanted) < 1e-11
        for name in names:
            moved = fresh[name] != 0
            count = sum(moved.reshape((n, -1))[k::units].any(0).astype(int) for k in range(units))
            alone = (count <= 1).reshape(moved.shape[1:])
            own = fresh[name] * alone
            pushed = np.tensordot(jacobian * same_unit, influence[name], 1)
            influence[name] = pushed + own


def _size(backend: Backend, state: Any) -> int:
    return sum(int(np.prod(leaf.shape)) for _, leaf in backend.named_leaves(state))


def _dense(
    backend: Backend, dynamics: Any, params: Any, state: Any, item: Any, n: int
) -> tuple[Any, dict[str, Any]]:
    """Return J and the immediate Jacobian, from exact RTRL with an influence of zero."""
    exact = RTRL()
    fresh, _, _ = exact.step(
        dynamics, params, exact.init(dynamics, params, state), state, item, None
    )
    _, pullback = dynamics.vjp(params, state, item)
    rows = []
    for k in range(n):
        unit, start = np.eye(n)[k], 0

        def part(leaf: Any, unit: Any = unit) -> Any:
            nonlocal start
            start += leaf.size
            return unit[start - leaf.size : start].reshape(leaf.shape)

        _, by_state = pullback(backend.map(part, state), None)
        leaves: list[Any] = [leaf for _, leaf in backend.named_leaves(by_state)]
        rows.append(np.concatenate([leaf.reshape(-1) for leaf in leaves]))
    return np.stack(rows), dict(backend.named_leaves(fresh))


def test_snap_says_that_it_is_biased_and_it_is() -> None:
    trial = _trial(load_backend("autograd"), SymbolModel((GRU(4),), 3), 20)
    finding = check_unbiased(trial, SnAp())
    assert finding.verdict == "biased"
    assert "The bias reaches" in check_declaration(trial, SnAp()).require().evidence
    assert 1e-3 < finding.gap < 1.0
    with pytest.raises(SettingError, match="order: expected 1, got 2"):
        SnAp(2)


# The diagonal baseline.

BESIDE: dict[str, tuple[Any, Any, int]] = {
    "gru": (GRU(3), UORO(baseline="diagonal"), 3),
    "gru, four steps": (GRU(3), UORO(baseline="diagonal"), 4),
    "lstm": (LSTM(2), UORO(baseline="diagonal", probes=2), 3),
    "gru, joint": (GRU(2), JointUORO(1, baseline="diagonal"), 3),
    "lstm, joint, scaled": (LSTM(1), JointUORO(1, baseline="diagonal", scaling="rows"), 3),
    "gru, rank 2": (GRU(2), UORO(2, baseline="diagonal"), 3),
}


def _mean(backend: Backend, cells: Any, estimator: Any, steps: int) -> Any:
    trial = _trial(backend, SymbolModel(cells, 3), steps)
    return check_mean_beside(trial.dynamics, trial.params, trial.state, trial.items, estimator)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.thorough) if "lstm" in name or "four" in name else name
        for name in BESIDE
    ],
)
def test_pairs_beside_a_baseline_are_unbiased(backend: Backend, name: str) -> None:
    cell, estimator, steps = BESIDE[name]
    finding = _mean(backend, (cell,), estimator, steps).require()
    assert finding.gap <= 1e-12


def test_layers_of_different_sizes_have_a_baseline() -> None:
    backend = load_backend("torch")
    _mean(backend, (GRU(2), Tanh(1)), UORO(baseline="diagonal"), 4).require()


@pytest.mark.parametrize("wrong", WRONG_BASELINES)
def test_wrong_baselines_are_refused(backend: Backend, wrong: str) -> None:
    finding = _mean(backend, (GRU(2),), WRONG_BASELINES[wrong], 3)
    assert finding.verdict == "biased"
    assert finding.gap > 1e-6


def test_a_baseline_takes_noise_away() -> None:
    """Compared are standard deviations of the last gradient over all signs, of the same network."""
    backend = load_backend("torch")
    spreads = []
    for estimator in (UORO(baseline="diagonal", probes=64), UORO()):
        evidence = _mean(backend, (GRU(3),), estimator, 4).require().evidence
        spreads.append(float(evidence.rpartition(",")[2].rstrip(".")))
    assert 0 < spreads[0] < 0.7 * spreads[1]


def test_baselines_refuse_bad_settings() -> None:
    with pytest.raises(SettingError, match=r"baseline: expected .*'diagonal'"):
        UORO(baseline="block")  # type: ignore[arg-type]
    with pytest.raises(SettingError, match="probes: expected an integer >= 1, got 0"):
        JointUORO(2, probes=0)
    trial = _trial(load_backend("autograd"), SymbolModel((GRU(2),), 3), 1)
    with pytest.raises(SettingError, match="Pass inputs=item"):
        UORO(baseline="diagonal").init(trial.dynamics, trial.params[0], trial.state)


# Locality.


def test_the_locality_of_a_gru_leaves_the_reset_gate_out() -> None:
    backend = load_backend("jax")
    trial = _trial(backend, SymbolModel((GRU(64),), 3), 1)
    with backend.precision("float32"):
        params, state, item = (
            backend.from_host(backend.to_host(tree), dtype="float32") for tree in trial.first[1:]
        )
        locality = find_locality(trial.dynamics, params, state, item)
    leaves = {leaf.name: leaf for leaf in locality.leaves}
    assert leaves["0/gates"].moves[0] == Units(tuple(range(64)) + (-1,) * 64, (128, 1))
    assert leaves["0/candidate"].moves[0] == Units(tuple(range(64)), (64, 1))
    assert "some entries move several units of leaf '0/h'" in locality.describe()


def test_numbers_are_put_at_units_from_slices() -> None:
    units = Units((2, 0, 1, 2, -1, -1, 1), (7, 1))
    row = at_units(np, np.array([10.0, 20.0, 30.0]), units)
    assert row[:, 0].tolist() == [30.0, 10.0, 20.0, 30.0, 0.0, 0.0, 20.0]


def test_systems_of_the_suite_have_units_that_do_not_mix(backend: Backend) -> None:
    trial = System("rtu", 2, 4).build(backend)
    check_unbiased(trial, BlockRTRL()).require()


class Peepholes:
    """An element-wise recurrence of two leaves; the gate of h moves c one step later."""

    def init(self, generator: np.random.Generator) -> tuple[Any, Any]:
        params = {name: generator.normal(size=3) for name in ("keep", "gate", "back", "readout")}
        return params, {"c": generator.normal(size=3), "h": generator.normal(size=3)}

    def transition(self, xp: Any, params: Any, state: Any, inputs: Any) -> tuple[Any, Any]:
        c = xp.tanh(params["keep"] * state["c"] + params["back"] * state["h"] + inputs["symbol"])
        h = xp.tanh(params["gate"]) * c
        return {"c": c, "h": h}, xp.sum(params["readout"] * h) * inputs["target"]


def test_an_entry_that_moves_one_coordinate_moves_the_other_later(backend: Backend) -> None:
    trial = _trial(backend, Peepholes(), 20)
    check_unbiased(trial, BlockRTRL()).require()
    check_unbiased(trial, SnAp()).require()


@pytest.mark.parametrize("distribution", ["signs", "gaussian", "spherical"])
def test_probes_are_drawn_apart_from_the_signs(backend: Backend, distribution: Any) -> None:
    """The diagonal of J must not know ν; μ equal to a row of ν made the gradient biased."""
    zeros = backend.from_host(np.zeros(4))
    state = {"c": zeros, "h": zeros}
    estimators: list[Any] = [UORO(2, distribution=distribution, baseline="diagonal", probes=2)]
    if distribution == "signs":
        estimators += [UORO(baseline="diagonal"), JointUORO(4, baseline="diagonal")]
    for estimator in estimators:
        beside, draws = estimator._beside, 400
        own, probes = list[Any](), list[Any]()
        for number in range(draws):
            key = backend.fold(backend.key(0), number)
            drawn = estimator.draw(partial(backend.random, key), state)
            parted = beside._parted(backend, drawn)
            for kept, tree in ((own, parted.signs), (probes, parted.probes)):
                leaves = [leaf.reshape((-1, 4)) for leaf in backend.to_host(tree).values()]
                kept.append(np.concatenate(leaves, axis=1))
        rows, signs = (np.array(kept).reshape((draws, -1)) for kept in (own, probes))
        assert signs.shape[1] == 8 * estimator.probes
        assert set(np.unique(signs)) == {-1.0, 1.0}
        between = abs(rows.T @ signs) / draws
        assert between.max() < 0.25, between.max()  # Equal rows have 1.
