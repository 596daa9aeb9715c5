"""Monitors: radius, norms and noise against the truth, and all of them on a run."""

from __future__ import annotations

from functools import partial
from itertools import product
from typing import Any

import numpy as np
import pytest
from systems import MODELS, build, entries, jiggle, make_items, relative
from uoro_conformance.kronecker import influence_of

from uoro import (
    RTRL,
    SGD,
    UORO,
    Backend,
    Estimator,
    KroneckerSum,
    Learner,
    RollingTruncated,
    Streams,
    load_backend,
)
from uoro.algebra import basis, coordinates, norm, repeat
from uoro.errors import SettingError, UnknownNameError
from uoro.estimators import Influence, Truncated
from uoro.monitors import (
    GradientNoise,
    Monitor,
    Shadowed,
    make_monitor,
    pair_norms,
    rank_noise,
    replica_noise,
    spectral_radius,
    unwrap,
)

# Spectral radius


def _linear(backend: Backend) -> Any:
    return backend.dynamics(lambda p, s, x: (p @ s, s.sum()), check=False)


def _radius(backend: Backend, matrix: Any, **settings: Any) -> Any:
    state = backend.from_host(np.zeros(len(matrix)))
    return spectral_radius(
        _linear(backend), backend.from_host(np.asarray(matrix)), state, None, **settings
    )


def _turn(angle: float) -> Any:
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def _skewed(angle: float) -> Any:
    """A pair of eigenvalues of modulus 0.9, four smaller ones, in coordinates of condition 10."""
    generator = np.random.default_rng(0)
    blocks = np.diag([0.0, 0.0, 0.5, -0.4, 0.3, 0.1])
    blocks[:2, :2] = 0.9 * _turn(angle)
    left, right = (np.linalg.qr(generator.normal(size=(6, 6)))[0] for _ in range(2))
    skew = left @ np.diag(np.geomspace(1, 10, 6)) @ right
    return skew @ blocks @ np.linalg.inv(skew)


FAR_FROM_NORMAL = np.diag(np.linspace(0.9, 0.1, 9)) + 1000 * np.diag(np.ones(8), 1)


@pytest.mark.parametrize(
    ("matrix", "allowed"),
    [
        (1.3 * _turn(0.7), 1e-12),
        (np.array([[0.0, -4.0], [1.0, 0.0]]), 1e-3),  # turns by a right angle, and stretches
        (np.diag([0.5, -0.9, 0.1]), 1e-6),
        (_skewed(1.0), 3e-3),
        (_skewed(0.1), 5e-2),
        (FAR_FROM_NORMAL, 1e-2),  # its norm is 1,000
        (np.random.default_rng(0).normal(size=(24, 24)) / 24**0.5, 2e-2),
    ],
    ids=["rotation", "unequal axes", "diagonal", "skew", "slow skew", "far from normal", "random"],
)
def test_the_radius_is_that_of_the_eigenvalues(
    backend: Backend, matrix: Any, allowed: float
) -> None:
    wanted = max(abs(np.linalg.eigvals(matrix)))
    found = float(_radius(backend, matrix).radius)
    assert found == pytest.approx(wanted, rel=allowed), (found, wanted)


@pytest.mark.parametrize(
    ("name", "model"),
    [("autograd", "lstm"), ("torch", "lstm"), ("torch", "two leaves"), ("jax", "two leaves")],
)
def test_the_radius_of_a_model_is_that_of_its_jacobian(name: str, model: str) -> None:
    backend = load_backend(name)
    with backend.precision("float64"):
        dynamics, params, state = build(backend, MODELS[model])
        item = entries(backend, make_items(1), 1)[0]

        @backend.compile
        def look(params: Any, state: Any, item: Any) -> Any:
            push = backend.vmap(lambda unit: dynamics.jvp(params, state, item, unit)[0])
            columns = coordinates(backend, push(basis(backend, state)))
            return columns, spectral_radius(dynamics, params, state, item, iterations=100)

        columns, found = look(params, state, item)
        wanted = max(abs(np.linalg.eigvals(backend.to_host(columns).T)))
        assert float(found.radius) == pytest.approx(wanted, rel=0.03)
        assert float(norm(backend, found.tangent)) == pytest.approx(1.0)


def test_going_on_from_the_last_tangent_makes_up_for_few_iterations(backend: Backend) -> None:
    state = backend.from_host(np.zeros(3))
    matrix = backend.from_host(np.diag([0.9, 0.85, 0.1]))
    tangent, gaps = backend.from_host(np.ones(3)), []

    @backend.compile
    def look(tangent: Any) -> Any:
        return spectral_radius(_linear(backend), matrix, state, None, tangent=tangent, iterations=8)

    for _ in range(30):
        radius, tangent = look(tangent)
        gaps.append(abs(float(radius) / 0.9 - 1))
    assert gaps[0] > 3e-3, gaps
    assert gaps[-1] < 1e-3, gaps


def test_a_state_that_goes_nowhere_has_radius_zero(backend: Backend) -> None:
    for matrix in (np.zeros((3, 3)), np.diag(np.ones(5), 1)):
        radius, tangent = _radius(backend, matrix)
        assert float(radius) == 0
        assert float(norm(backend, tangent)) == pytest.approx(1.0)


def test_a_tangent_in_the_kernel_does_not_stay_there(backend: Backend) -> None:
    kernel = backend.from_host(np.array([0.0, 1.0]))
    radius, _ = _radius(backend, np.diag([0.7, 0.0]), tangent=kernel)
    assert float(radius) == pytest.approx(0.7)


@pytest.mark.parametrize("entry", [np.nan, np.inf])
def test_a_jacobian_that_is_not_finite_has_no_radius(backend: Backend, entry: float) -> None:
    with np.errstate(all="ignore"):
        radius, tangent = _radius(backend, np.array([[0.5, entry], [0.1, 0.2]]))
    assert not np.isfinite(float(radius))
    assert float(norm(backend, tangent)) == pytest.approx(1.0)
    # And a run can go on from there.
    assert float(_radius(backend, np.diag([0.5, 0.4]), tangent=tangent).radius) == pytest.approx(
        0.5, rel=1e-3
    )


# Norms of pairs


def test_norms_of_pairs_are_those_of_numpy(backend: Backend) -> None:
    generator = np.random.default_rng(0)
    tangent, cotangent = generator.normal(size=(3, 4)), generator.normal(size=(3, 2, 5))
    stack = backend.from_host({"t": tangent, "c": cotangent})
    found = pair_norms(backend, Influence(stack["t"], stack["c"]), axes=1)
    left, right = np.linalg.norm(tangent, axis=1), np.linalg.norm(cotangent, axis=(1, 2))
    assert found.tangent == pytest.approx(np.sqrt((left**2).mean()))
    assert found.cotangent == pytest.approx(np.sqrt((right**2).mean()))
    assert found.norm == pytest.approx(np.sqrt(((left * right) ** 2).mean()))
    assert found.largest == pytest.approx((left * right).max())
    assert found.finite
    one = pair_norms(backend, Influence(stack["t"][0], stack["c"][0]))
    assert one.norm == one.largest == pytest.approx(left[0] * right[0])


@pytest.mark.parametrize("entry", [np.nan, np.inf])
def test_a_pair_that_is_not_finite_is_told_of(backend: Backend, entry: float) -> None:
    bad = backend.from_host(np.array([[1.0, 2.0], [1.0, entry]]))
    found = pair_norms(backend, Influence(bad, backend.from_host(np.ones((2, 1)))), axes=1)
    assert not found.finite
    assert not np.isfinite(found.largest)


# Noise


def _noisy(xp: Any, params: Any, state: Any, item: Any) -> tuple[Any, Any]:
    state = params["recurrent"] @ state + params["input"] * item
    return state, 0.5 * xp.sum((state - 1.0) ** 2)


def _tiny(backend: Backend, steps: int) -> tuple[Any, Any, Any, Any]:
    params = {"recurrent": np.array([[0.5, -0.3], [0.8, 0.4]]), "input": np.array([1.0, -0.5])}
    items = np.array([1.0, -0.7, 0.4, 0.9][:steps])
    dynamics = backend.dynamics(partial(_noisy, backend.xp), check=False)
    return (
        dynamics,
        backend.from_host(params),
        backend.from_host(np.array([0.2, 0.1])),
        backend.from_host(items),
    )


def _all_signs(count: int) -> Any:
    return np.array(list(product([-1.0, 1.0], repeat=count)))


def _truth(steps: int) -> list[float]:
    """Squared norm of the exact gradient of each step, by the complex step alone."""
    _, params, state, items = _tiny(load_backend("autograd"), steps)
    flat = np.concatenate([params["input"], params["recurrent"].ravel()])

    def losses(flat: Any) -> Any:
        weights = {"input": flat[:2], "recurrent": flat[2:].reshape(2, 2)}
        now, found = state.astype(complex), []
        for item in items:
            now, loss = _noisy(np, weights, now, item)
            found.append(loss)
        return np.array(found)

    steps_by = [losses(flat + 1e-20j * unit).imag / 1e-20 for unit in np.eye(6)]
    return [float(square) for square in (np.array(steps_by) ** 2).sum(0)]


def test_signal_and_noise_of_rank_two_are_right_on_average_over_all_signs(
    backend: Backend,
) -> None:
    dynamics, params, start, items = _tiny(backend, 3)
    estimator = UORO(rank=2)
    first, last = backend.map(lambda leaf: leaf[:2], items), items[2]

    def one(signs: Any) -> Any:
        def body(carried: Any, item: Any) -> Any:
            carry, state, _ = carried
            return (*estimator.step(dynamics, params, carry, state, *item)[:2], state), None

        carried = estimator.init(dynamics, params, start), start, start
        (carry, state, _), _ = backend.scan(body, carried, (first, signs))
        found = rank_noise(dynamics, params, carry, state, last)
        drawn = signs[0]
        _, _, estimate = estimator.step(dynamics, params, carry, state, last, drawn)
        square = backend.inner(estimate.gradient, estimate.gradient)
        return found.signal_squared, found.noise_squared, square

    signs = backend.from_host(_all_signs(8).reshape(256, 2, 2, 2))
    found = backend.to_host(backend.compile(backend.vmap(one))(signs))
    signal, drawn, square = (np.asarray(column).mean() for column in found)
    true = _truth(3)[2]
    assert signal == pytest.approx(true, rel=1e-10)
    assert drawn == pytest.approx(square - true, rel=1e-10)
    assert drawn > 0.1 * true


@pytest.mark.slow
def test_signal_and_noise_from_replicas_are_right_on_average_over_all_signs() -> None:
    backend, steps, replicas = load_backend("jax"), 3, 2
    with backend.precision("float64"):
        dynamics, params, start, items = _tiny(backend, steps)
        estimator = Shadowed(UORO(), UORO(rank=replicas))

        def one(signs: Any) -> Any:
            def body(carried: Any, item: Any) -> Any:
                carry, state = carried
                x, drawn = item
                drawn = {"estimator": drawn[0], "shadow": drawn[1:]}
                carry, state, estimate = estimator.step(dynamics, params, carry, state, x, drawn)
                return (carry, state), backend.inner(estimate.gradient, estimate.gradient)

            # What is drawn at the last step comes too late for any gradient.
            padded = backend.xp.concatenate([signs, signs[:1]])
            carried = estimator.init(dynamics, params, start), start
            (carry, _), squares = backend.scan(body, carried, (items, padded))
            return carry, squares

        signs = backend.from_host(_all_signs(12).reshape(4096, 2, 3, 2))
        carries, squares = backend.to_host(backend.compile(backend.vmap(one))(signs))
        found = [
            replica_noise(backend, backend.map(lambda leaf, i=i: leaf[i], carries), replicas)
            for i in range(4096)
        ]
    true = np.mean(_truth(steps))
    assert np.mean([each.signal_squared for each in found]) == pytest.approx(true, rel=1e-10)
    variance = squares.mean() - true
    assert np.mean([each.noise_squared for each in found]) == pytest.approx(variance, rel=1e-10)


def test_a_signal_that_is_not_positive_has_no_relative_variance() -> None:
    assert np.isnan(GradientNoise(-0.1, 2.0).relative_variance)
    assert GradientNoise(0.5, 2.0).relative_variance == 4.0


# On a run

SPELLINGS = (
    "pair",
    "radius:iterations=8",
    "noise",
    "noise:replicas=2",
    "shadow",
    "shadow:every=2",
    "shadow:window=3",
)


def test_all_monitors_look_at_one_run_and_do_not_disturb_it(backend: Backend) -> None:
    # What a compiler does with that many is the same again.
    spellings = SPELLINGS[:5] if backend.compiled else SPELLINGS
    monitors = [make_monitor(spelling) for spelling in spellings]
    estimator: Estimator = UORO(rank=2)
    dynamics, params, state, _ = _tiny(backend, 1)
    items = [backend.from_host(np.array(value)) for value in (1.0, -0.7, 0.4, 0.9, 0.2)]
    plain = Learner(dynamics, estimator, SGD(0.05), params, state)
    for monitor in monitors:
        estimator = monitor.wrap(estimator)
    learner = Learner(dynamics, estimator, SGD(0.05), params, state)
    for item in items[:4]:
        learner.step(item)
        plain.step(item)
    pairs = unwrap(learner.carry)
    assert type(pairs) is Influence
    gap = relative(backend, learner.params, plain.params)
    assert gap < 1e-12 if backend.compiled else gap == 0, gap
    found: dict[str, float] = {}
    for monitor in monitors:
        now = learner.params, learner.carry, learner.state, items[4]
        measured = monitor.measure(dynamics, estimator, *now)
        again = monitor.measure(dynamics, estimator, *now)
        if monitor.name != "radius":
            assert again == pytest.approx(measured, nan_ok=True)
        assert all(type(value) is float for value in measured.values()), measured
        found |= {f"{monitor.name} {name}": value for name, value in measured.items()}
    assert found["pair pair/finite"] == 1
    assert found["pair pair/norm"] == pytest.approx(pair_norms(backend, pairs, axes=1).norm)
    assert 0 < found["radius radius"] < 10
    immediate = rank_noise(dynamics, learner.params, pairs, learner.state, items[4])
    assert found["noise noise/noise_squared"] == pytest.approx(float(immediate.noise_squared))
    assert found["noise:replicas=2 noise/noise_squared"] > 0
    assert found["shadow shadow/samples"] == 4
    if not backend.compiled:
        assert found["shadow:window=3 shadow/samples"] == 4
        assert found["shadow:every=2 shadow/samples"] == 2
        assert found["shadow shadow/cosine"] != found["shadow:window=3 shadow/cosine"]


@pytest.mark.parametrize("name", ["autograd", "torch"])
def test_monitors_that_only_look_take_streams(name: str) -> None:
    backend = load_backend(name)
    dynamics, params, state = build(backend, MODELS["two leaves"])
    item = entries(backend, make_items(1), 1)[0]
    host = backend.to_host(state)
    states = backend.collect(
        [backend.from_host(jiggle(host, np.random.default_rng(i))) for i in range(2)]
    )
    estimator, stacked = Streams(UORO(rank=2), 2), backend.collect([item, item])
    carry = estimator.init(dynamics, params, states)
    ones = backend.map(lambda leaf: leaf + 1.0, carry)
    for spelling, wanted in (("pair", "pair/norm"), ("radius", "radius")):
        monitor = make_monitor(spelling)
        assert monitor.wrap(estimator) is estimator
        found = monitor.measure(dynamics, estimator, params, ones, states, stacked)
        if wanted == "pair/norm":
            assert found[wanted] == pytest.approx(np.sqrt(4 * 8))  # 4 numbers in s, 8 in θ
        else:
            first = backend.map(lambda leaf: leaf[0], states)
            alone = spectral_radius(dynamics, params, first, item).radius
            assert found[wanted] == pytest.approx(float(alone), rel=1e-6)


@pytest.mark.parametrize("streams", [False, True])
def test_the_variance_added_to_terms_is_that_of_the_reduction(
    backend: Backend, streams: bool
) -> None:
    """Against all terms multiplied out; the suite holds `added` to a dense reduction."""
    dynamics, params, state = build(backend, MODELS["rnn"])
    items = entries(backend, make_items(4), 4)
    estimator: Any = KroneckerSum(1)
    monitor, carry = make_monitor("added"), estimator.init(dynamics, params, state, inputs=items[0])
    for number, item in enumerate(items):
        signs = estimator.draw(partial(backend.random, backend.key(number)), state)
        carry, state, _ = estimator.step(dynamics, params, carry, state, item, signs)
    if streams:
        estimator = Streams(estimator, 2)
        carry, state = repeat(backend, carry, 2), repeat(backend, state, 2)
    assert monitor.wrap(estimator) is estimator
    found = monitor.measure(dynamics, estimator, params, carry, state, items[0])
    inner = carry if not streams else backend.map(lambda leaf: leaf[0], carry)
    squared = float(norm(backend, influence_of(backend, params, inner))) ** 2
    count = 2 if streams else 1
    assert found["added/influence_squared"] == pytest.approx(count * squared)
    assert found["added/variance"] == pytest.approx(count * float(inner.added))
    assert found["added/variance"] > 0


@pytest.mark.parametrize(
    ("spelling", "estimator", "message"),
    [
        ("pair", RTRL(), "RTRL, which carries no pairs"),
        ("noise", UORO(), r"got UORO\(rank=1\), a single pair.*noise:replicas=4"),
        ("noise", Truncated(), "Truncated, which carries no pairs"),
        ("noise:replicas=2", RTRL(), "'noise:replicas=2'.*RTRL, which carries no pairs"),
        ("noise", Streams(UORO(rank=2), 3), "several streams"),
        ("shadow", Streams(UORO(), 3), "'shadow'.*several streams"),
        ("noise:replicas=2", Streams(UORO(), 3), "several streams"),
        ("added", UORO(rank=2), "no variance is known to be added"),
        ("added", RTRL(), "RTRL, which carries no pairs"),
    ],
)
def test_a_monitor_with_nothing_to_say_says_so(
    spelling: str, estimator: Estimator, message: str
) -> None:
    with pytest.raises(SettingError, match=message):
        make_monitor(spelling).wrap(estimator)


def test_a_shadow_that_was_not_there_cannot_be_read() -> None:
    backend = load_backend("autograd")
    dynamics, params, state = build(backend, MODELS["linear"])
    estimator = Shadowed(UORO(), RollingTruncated(2))
    item = entries(backend, make_items(1), 1)[0]
    carry = estimator.init(dynamics, params, state, inputs=item)
    for spelling in ("shadow", "shadow:window=3", "noise:replicas=2"):
        with pytest.raises(SettingError, match=r"carry: expected its shadow.*wrap\(estimator\)"):
            make_monitor(spelling).measure(dynamics, estimator, params, carry, state, item)
    with pytest.raises(SettingError, match="carry: expected that of UORO, got NoneType"):
        make_monitor("pair").measure(dynamics, UORO(), params, None, state, item)
    with pytest.raises(SettingError, match="a single pair"):
        rank_noise(dynamics, params, carry.estimator, state, item)


@pytest.mark.parametrize(
    ("spelling", "error", "message"),
    [
        ("shadows", UnknownNameError, "Did you mean 'shadow'"),
        ("", UnknownNameError, "Known: added, noise, pair, radius, shadow"),
        ("pair:every=2", SettingError, "expected no option, got 'every=2'"),
        ("shadow:windows=2", SettingError, "expected window=COUNT or every=COUNT, got 'windows=2'"),
        ("shadow:window=0", SettingError, "window: expected an integer >= 1, got '0'"),
        ("shadow:window=2,window=3", SettingError, "window: expected one value, got two"),
        ("noise:replicas=few", SettingError, "replicas: expected an integer >= 1, got 'few'"),
        ("noise:every=2", SettingError, "every: expected 'replicas' beside it"),
        ("radius:64", SettingError, "expected iterations=COUNT, got '64'"),
    ],
)
def test_spellings_that_mean_nothing(spelling: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make_monitor(spelling)


@pytest.mark.parametrize(
    "spelling",
    [
        "pair",
        "added",
        "radius",
        "noise",
        "noise:replicas=4",
        "noise:replicas=4,every=10",
        "shadow",
        "shadow:every=10",
        "shadow:window=64",
        "shadow:window=64,every=10",
    ],
)
def test_a_monitor_has_its_spelling_for_a_name_and_says_what_it_costs(spelling: str) -> None:
    monitor: Monitor = make_monitor(spelling)
    assert monitor.name == spelling
    assert len(monitor.cost) > 20
