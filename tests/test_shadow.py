"""A shadow beside a run: it changes nothing, sums up what it should, and its interval is honest."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
from systems import MODELS, build, entries, make_items, relative

from uoro import RTRL, SGD, UORO, Backend, Estimator, Learner, RollingTruncated, load_backend
from uoro.errors import SettingError
from uoro.estimators import Truncated
from uoro.learning.carry import Progress
from uoro.learning.update import Clock, Update
from uoro.monitors import Shadowed, restart, shadow_report
from uoro.monitors.batches import add, on_host, ratio, start

UNITS, LAG = 6, 4
HELD = SGD(1e-12)


def recall(xp: Any, params: Any, state: Any, inputs: Any) -> tuple[Any, Any]:
    """A tanh network that has to remember a number for `LAG` steps."""
    now, before = inputs
    state = xp.tanh(params["recurrent"] @ state + params["input"] * now + params["bias"])
    return state, 0.5 * (xp.sum(params["readout"] * state) - before) ** 2


def recall_params() -> dict[str, Any]:
    generator = np.random.default_rng(0)
    return {
        "recurrent": 0.9 * np.linalg.qr(generator.normal(size=(UNITS, UNITS)))[0],
        "input": 0.5 * generator.normal(size=UNITS),
        "bias": 0.1 * generator.normal(size=UNITS),
        "readout": 0.5 * generator.normal(size=UNITS),
    }


def numbers(steps: int, seed: int) -> tuple[Any, Any]:
    drawn = np.random.default_rng(seed).choice([-1.0, 1.0], steps + LAG)
    return drawn[LAG:], drawn[:-LAG]


@pytest.fixture(params=["autograd", "torch"])
def eager(request: pytest.FixtureRequest) -> Backend:
    return load_backend(request.param)


# What is reported


def report_of(name: str, estimator: Estimator, steps: int) -> dict[str, float]:
    backend = load_backend(name)
    with backend.precision("float64"):
        dynamics = backend.dynamics(partial(recall, backend.xp), check=False)
        shadowed = Shadowed(estimator, RTRL())
        learner = Learner(dynamics, shadowed, HELD, recall_params(), np.zeros(UNITS))
        learner.run(zip(*numbers(steps, 1), strict=True), chunk=1024)
        return shadow_report(backend, learner.carry)


def test_the_cosine_of_uoro_is_small_and_that_of_its_mean_is_not() -> None:
    """Over 1,000 seeds the bias of UORO that 1,024 steps find is spread by 0.030."""
    found = report_of("jax", UORO(), 4096)
    assert found["samples"] == 4096
    assert 0.29 < found["cosine"] < 0.35, found
    assert found["cosine_of_means"] > 0.95, found
    assert found["cosine"] == pytest.approx((1 + found["relative_variance"]) ** -0.5, rel=0.05)
    assert abs(found["bias"]) < 6 * 0.015, found
    assert found["bias_high"] - found["bias_low"] < 0.12, found


@pytest.mark.parametrize(
    ("estimator", "bias"), [(Truncated(), -0.28), (RollingTruncated(2), -0.12)], ids=repr
)
def test_the_bias_of_truncation_is_found(estimator: Estimator, bias: float) -> None:
    """The numbers are those of 1,000 steps of 4 other streams, whose spread was 0.002."""
    found = report_of("autograd", estimator, 400)
    assert found["bias"] == pytest.approx(bias, abs=0.02), found
    assert found["bias_high"] < bias + 0.04, found
    assert found["cosine"] > 0.8, found


def test_the_interval_of_the_bias_contains_zero_as_often_as_it_says() -> None:
    """The chance that fewer than 50 of 60 do is below 1 in 1,000, at 95 % and at 93 % 1 in 100."""
    backend = load_backend("jax")
    seeds, steps = 60, 512
    with backend.precision("float64"):
        dynamics = backend.dynamics(partial(recall, backend.xp), check=False)
        update = Update(dynamics, Shadowed(UORO(), RTRL()), HELD)
        params, state = backend.from_host(recall_params()), backend.from_host(np.zeros(UNITS))

        def one(seed: Any, items: Any) -> Any:
            now = update.start(Progress(params, state, None, None), None)
            clock, indices = Clock(backend.key(seed), 0, 0), backend.xp.arange(steps)
            return update.advance_chunk(now, items, None, clock, indices)[0].carry

        items = backend.collect([numbers(steps, 100 + seed) for seed in range(seeds)])
        carries = backend.compile(backend.vmap(one))(backend.xp.arange(seeds), items)
        host = backend.to_host(carries)
        reports = [
            shadow_report(backend, backend.map(lambda leaf, i=i: leaf[i], host))
            for i in range(seeds)
        ]
    inside = [found["bias_low"] < 0 < found["bias_high"] for found in reports]
    assert sum(inside) >= 50, [found["bias"] for found in reports]
    # And it is no wider than it must be: its half is 2.04 standard deviations of what it is about.
    spread = np.std([found["bias"] for found in reports])
    half = np.mean([found["bias_high"] - found["bias_low"] for found in reports]) / 2
    assert 1.6 < half / spread < 2.6, (half, spread)


@pytest.mark.parametrize(
    ("name", "every"), [("autograd", 1), ("autograd", 3), ("torch", 3), ("jax", 1)]
)
def test_the_report_is_that_of_the_gradients_one_by_one(name: str, every: int) -> None:
    backend = load_backend(name)
    with backend.precision("float64"):
        _compare_one_by_one(backend, every)


def _compare_one_by_one(backend: Backend, every: int) -> None:
    dynamics, params, state = build(backend, MODELS["two leaves"])
    items, steps = entries(backend, make_items(75), 75), 75
    shadowed, alone, exact = Shadowed(UORO(), RTRL(), every), UORO(), RTRL()
    carry = shadowed.init(dynamics, params, state)
    mine, its = alone.init(dynamics, params, state), exact.init(dynamics, params, state)
    rows = []

    @backend.compile
    def step(carry: Any, mine: Any, its: Any, state: Any, item: Any, signs: Any) -> Any:
        carry, after, _ = shadowed.step(dynamics, params, carry, state, item, signs)
        mine, _, estimate = alone.step(dynamics, params, mine, state, item, signs)
        its, _, truth = exact.step(dynamics, params, its, state, item, None)
        return (carry, mine, its, after), (estimate.gradient, truth.gradient)

    for number in range(steps):
        signs = shadowed.draw(partial(backend.random, backend.fold(backend.key(0), number)), state)
        (carry, mine, its, state), gradients = step(carry, mine, its, state, items[number], signs)
        pair = [_flat(backend, tree) for tree in gradients]
        if number % every == 0:
            rows.append(pair)
    found = shadow_report(backend, carry)

    estimated, true = (np.array(column) for column in zip(*rows, strict=True))
    along, size = ((estimated - true) * true).sum(1), (true**2).sum(1)
    assert found["samples"] == len(rows)
    assert found["cosine"] == pytest.approx(
        (estimated * true).sum() / np.sqrt((estimated**2).sum() * size.sum())
    )
    means = estimated.mean(0), true.mean(0)
    assert found["cosine_of_means"] == pytest.approx(
        means[0] @ means[1] / np.linalg.norm(means[0]) / np.linalg.norm(means[1])
    )
    assert found["relative_variance"] == pytest.approx(((estimated - true) ** 2).sum() / size.sum())
    bias = along.sum() / size.sum()
    assert found["bias"] == pytest.approx(bias)
    # 75 samples are 19 batches, of 4 but for the last; 25 are 25 of 1.
    length, quantile = (4, 2.101) if every == 1 else (1, 2.064)
    cuts = np.arange(0, len(rows), length)
    gaps = np.add.reduceat(along - bias * size, cuts)
    error = np.sqrt(len(cuts) / (len(cuts) - 1) * (gaps**2).sum()) / size.sum()
    assert found["bias_high"] - bias == pytest.approx(quantile * error, rel=1e-3)
    assert bias - found["bias_low"] == pytest.approx(quantile * error, rel=1e-3)


def _flat(backend: Backend, tree: Any) -> Any:
    leaves = backend.named_leaves(backend.to_host(tree))
    return np.concatenate([np.asarray(leaf).ravel() for _, leaf in leaves])


# What it leaves alone


@pytest.mark.parametrize(
    ("name", "estimator", "shadow"),
    [
        ("autograd", UORO(rank=2), RTRL()),
        ("autograd", UORO(), UORO(rank=3)),
        ("torch", UORO(rank=2), RTRL()),
        ("torch", UORO(), UORO(rank=3)),
        ("jax", UORO(), UORO(rank=3)),
    ],
)
def test_a_run_is_what_it_is_without_the_shadow(
    name: str, estimator: Estimator, shadow: Estimator
) -> None:
    backend, ended = load_backend(name), []
    with backend.precision("float64"):
        for each in (estimator, Shadowed(estimator, shadow)):
            dynamics = backend.dynamics(partial(recall, backend.xp), check=False)
            learner = Learner(dynamics, each, SGD(0.05), recall_params(), np.zeros(UNITS), seed=3)
            for item in zip(*numbers(8, 0), strict=True):
                learner.step(item)
            carry = learner.carry.estimator if isinstance(each, Shadowed) else learner.carry
            ended.append((learner.params, learner.state, carry))
        gap = relative(backend, ended[1], ended[0])
    assert gap < 1e-13 if backend.compiled else gap == 0, gap
    assert Shadowed(estimator, shadow).guarantee == "unbiased"


@pytest.mark.parametrize(
    ("law", "mine", "its"),
    [
        ("signs", 1, 1),
        ("signs", 3, 1),
        ("signs", 1, 4),
        ("gaussian", 2, 3),
        ("spherical", 2, 3),
    ],
)
def test_the_shadow_draws_apart_from_the_estimator(
    backend: Backend, law: Any, mine: int, its: int
) -> None:
    """768 correlations of 300 draws: one beyond 6 standard deviations in a million tests."""
    state = backend.from_host({"a": np.zeros((2, 2)), "b": np.zeros(3)})
    first, second = UORO(rank=mine, distribution=law), UORO(rank=its, distribution=law)
    key, draws = backend.key(0), 300

    def drawer(estimator: Estimator) -> Any:
        return backend.compile(
            lambda number: estimator.draw(partial(backend.random, backend.fold(key, number)), state)
        )

    # Around another shadow: neither of the three must know of another.
    both, alone = drawer(Shadowed(Shadowed(first, UORO(distribution=law)), second)), drawer(first)
    kept = []
    for number in range(draws):
        drawn = both(number)
        own, inner, outer = (
            drawn["estimator"]["estimator"],
            drawn["estimator"]["shadow"],
            drawn["shadow"],
        )
        if number < 3:
            assert relative(backend, own, alone(number)) == 0
        kept.append([_flat(backend, tree) for tree in (own, inner, outer)])
    columns = [np.array(column) for column in zip(*kept, strict=True)]
    assert [column.shape[1] for column in columns] == [7 * mine, 7, 7 * its]
    everything = np.concatenate(columns, 1)
    correlations = everything.T @ everything / draws - np.eye(everything.shape[1])
    allowed = 6 / np.sqrt(draws) if law == "signs" else 9 / np.sqrt(draws)
    assert abs(correlations).max() < allowed, abs(correlations).max()


def test_a_shadow_that_draws_what_the_estimator_draws_would_be_seen(backend: Backend) -> None:
    state = backend.from_host({"a": np.zeros((2, 2)), "b": np.zeros(3)})
    sampler = partial(backend.random, backend.key(0))
    one, other = UORO().draw(sampler, state), UORO().draw(sampler, state)
    assert relative(backend, one, other) == 0  # so each of 7 correlations would be 1


def test_the_memory_keeps_its_shapes_and_dtypes(backend: Backend) -> None:
    dynamics = backend.dynamics(partial(recall, backend.xp), check=False)
    params, state, item = (
        backend.from_host(tree, dtype="float32")
        for tree in (recall_params(), np.zeros(UNITS), (np.array(1.0), np.array(-1.0)))
    )
    shadowed = Shadowed(Shadowed(Shadowed(UORO(), RTRL()), RollingTruncated(2)), UORO(rank=2))
    signs = shadowed.draw(partial(backend.random, backend.key(0)), state)
    first = shadowed.init(dynamics, params, state, inputs=item)

    @backend.compile
    def step(carry: Any, state: Any) -> Any:
        return shadowed.step(dynamics, params, carry, state, item, signs)[:2]

    second, state = step(first, state)
    third, _ = step(backend.from_host(backend.to_host(second)), state)
    wanted = _kinds(backend, first)
    assert {dtype for _, _, dtype in wanted if "float64" in dtype} == set()
    for carry in (second, third, restart(backend, third)):
        assert _kinds(backend, carry) == wanted
    assert shadow_report(backend, third)["samples"] == 2


def test_what_is_averaged_of_narrow_params_is_wide(backend: Backend) -> None:
    dynamics = backend.dynamics(partial(recall, backend.xp), check=False)
    params, state = (
        backend.from_host(tree, dtype="float16") for tree in (recall_params(), np.zeros(UNITS))
    )
    samples = Shadowed(UORO(), UORO()).init(dynamics, params, state).samples
    assert {dtype.rpartition(".")[2] for _, _, dtype in _kinds(backend, samples.estimated)} == {
        "float32"
    }


def _kinds(backend: Backend, tree: Any) -> Any:
    return [(name, tuple(leaf.shape), str(leaf.dtype)) for name, leaf in backend.named_leaves(tree)]


def test_a_run_goes_on_from_numbers_on_the_host(eager: Backend) -> None:
    dynamics, params, state = build(eager, MODELS["rnn"])
    shadowed = Shadowed(UORO(), RTRL())
    items = entries(eager, make_items(6), 6)

    def steps(carry: Any, state: Any, first: int, last: int) -> Any:
        for number in range(first, last):
            sampler = partial(eager.random, eager.fold(eager.key(0), number))
            signs = shadowed.draw(sampler, state)
            carry, state, _ = shadowed.step(dynamics, params, carry, state, items[number], signs)
        return carry, state

    whole = steps(shadowed.init(dynamics, params, state), state, 0, 6)
    half = steps(shadowed.init(dynamics, params, state), state, 0, 3)
    carry, state = eager.from_host(eager.to_host(half))
    rest = steps(carry, state, 3, 6)
    wanted = shadow_report(eager, whole[0])
    assert shadow_report(eager, rest[0]) == pytest.approx(wanted, abs=0, nan_ok=True)


def test_a_restart_forgets_the_samples_and_nothing_else(eager: Backend) -> None:
    dynamics, params, state = build(eager, MODELS["rnn"])
    shadowed = Shadowed(Shadowed(UORO(), RTRL()), Truncated())
    learner = Learner(dynamics, shadowed, SGD(0.01), params, state)
    learner.run(entries(eager, make_items(40), 40))
    carry = restart(eager, learner.carry)
    for old, new in ((learner.carry, carry), (learner.carry.estimator, carry.estimator)):
        assert shadow_report(eager, old)["samples"] == 40
        report = shadow_report(eager, new)
        assert report.pop("samples") == 0
        assert all(np.isnan(value) for value in report.values()), report
        assert int(new.samples.batches.length) == 1
    for part in ("estimator", "shadow"):
        old, new = getattr(learner.carry.estimator, part), getattr(carry.estimator, part)
        assert relative(eager, new, old) == 0


# What is refused


def test_an_influence_too_large_to_hold_is_refused_with_the_way_out() -> None:
    backend = load_backend("autograd")
    dynamics = backend.dynamics(lambda w, s, x: (w[0] * s, s.sum()), check=False)
    large = np.broadcast_to(np.zeros(1), (2**20,))
    with pytest.raises(SettingError, match=r"got 257 × 1,048,576 numbers.*shadow:window=64"):
        Shadowed(UORO(), RTRL()).init(dynamics, large, np.zeros(257))


def test_two_distributions_and_no_steps_are_refused(backend: Backend) -> None:
    with pytest.raises(SettingError, match="every=0"):
        Shadowed(UORO(), RTRL(), every=0)
    state = backend.from_host(np.zeros(3))
    with pytest.raises(
        SettingError,
        match=r"expected one distribution for both, got 'signs' and, for the shadow, 'gaussian'",
    ):
        Shadowed(UORO(), UORO(distribution="gaussian")).draw(
            partial(backend.random, backend.key(0)), state
        )


# The batches


def test_batches_keep_every_sample_however_many_there_are(eager: Backend) -> None:
    backend = eager
    batches, values = start(backend, ["x"], "float64"), np.random.default_rng(0).normal(size=300)
    yes = backend.from_host(np.array(True))
    for count, value in enumerate(values, 1):
        batches = add(backend, batches, {"x": backend.from_host(value)}, yes)
        length = int(batches.length)
        assert length == (1 if count <= 32 else 2 ** int(np.ceil(np.log2(count / 32))))
        wanted = np.add.reduceat(values[:count], np.arange(0, count, length))
        np.testing.assert_allclose(on_host(backend, batches)["x"], wanted, atol=1e-12)


def test_the_interval_of_a_ratio_covers_it_though_samples_depend_on_those_before() -> None:
    generator = np.random.default_rng(0)
    runs, steps, carry = 400, 3200, 0.9
    signs = np.zeros((runs, steps))
    for t in range(1, steps):
        signs[:, t] = carry * signs[:, t - 1] + generator.standard_t(5, size=runs)
    below = generator.gamma(2.0, size=(runs, steps))
    above = 0.3 * below + signs
    covered = 0
    for x, y in zip(above, below, strict=True):
        found = ratio(x.reshape(32, -1).sum(1).tolist(), y.reshape(32, -1).sum(1).tolist())
        covered += found.low < 0.3 < found.high
    assert 0.91 < covered / runs < 0.985, covered / runs


def test_a_ratio_of_nothing_is_not_a_number() -> None:
    assert np.isnan(ratio([], [])).all()
    assert np.isnan(ratio([1.0] * 9, [0.0] * 9)).all()
    assert np.isnan(ratio([float("inf")] * 9, [1.0] * 9)).all()
    few = ratio([1.0, 2.0], [2.0, 4.0])
    assert few.value == 0.5
    assert np.isnan(few.low)
    assert np.isnan(few.high)
