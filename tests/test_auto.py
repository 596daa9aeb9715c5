"""``estimator="auto"``: what is chosen for a model, where, and that it is then the estimator."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from uoro_conformance import check_model

from uoro import (
    RTRL,
    SGD,
    UORO,
    BlockRTRL,
    JointUORO,
    KroneckerSum,
    Learner,
    RollingTruncated,
    SettingError,
    Streams,
    load_backend,
)
from uoro.estimator import needs_item
from uoro.estimators import Auto, SnAp, Traces, Truncated, choose
from uoro.estimators.recommending import AFFORDABLE, SMALL, Facts, recommended
from uoro.estimators.spelling import parse_estimator
from uoro.lab.replicas import Replicas
from uoro.monitors import Shadowed
from uoro.suggesting import suggest
from uoro.training.peeking import peek

BACKENDS = ["autograd", "torch", "jax"]


def _network(backend: Any, units: int, *, mixes: bool = True) -> tuple[Any, Any, Any]:
    """Return dynamics that return their output, params and state of a small network."""
    xp, rng = backend.xp, np.random.default_rng(0)

    def transition(params: Any, state: Any, x: Any) -> Any:
        pushed = params["w"] @ state if mixes else params["w"] * state
        state = xp.tanh(pushed + params["u"] * x)
        return state, params["c"] @ state

    shape = (units, units) if mixes else (units,)
    params = {
        "w": rng.normal(size=shape) / units,
        "u": rng.normal(size=units),
        "c": rng.normal(size=units) / units,
    }
    params, state = (backend.from_host(tree) for tree in (params, np.zeros(units)))
    return backend.dynamics(transition), params, state


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize(
    ("units", "mixes", "expected"),
    [(4, True, RTRL()), (56, True, KroneckerSum(2)), (40, False, BlockRTRL())],
)
def test_the_structure_and_the_sizes_decide(
    name: str, units: int, mixes: bool, expected: Any
) -> None:
    backend = load_backend(name)
    dynamics, params, state = _network(backend, units, mixes=mixes)
    chosen = choose(dynamics, params, state, backend.from_host(0.5))
    assert chosen.estimator == expected
    assert parse_estimator(chosen.spelling).estimator == expected
    assert repr(expected) in chosen.describe()
    assert chosen.reason in chosen.describe()


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (Facts(10, SMALL // 100, False, 100, 10), "rtrl"),
        (Facts(10, SMALL // 100 + 1, False, 100, 10), "kron:2"),
        (Facts(10, AFFORDABLE, False, 100, 10), "joint:4"),
        (Facts(1_000, 10_000, False, 0, 10_000), "joint:4"),
        (Facts(10_000, 10_000_000, True, 0, 0), "block"),
    ],
)
def test_the_rule(facts: Facts, expected: str) -> None:
    assert recommended(facts).spelling == expected


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize("streams", [None, 3])
def test_a_learner_takes_what_it_chose(name: str, streams: int | None) -> None:
    backend = load_backend(name)
    loss = lambda output, target: (output - target) ** 2  # noqa: E731
    dynamics, params, state = _network(backend, 5)
    if streams:
        state = backend.map(lambda leaf: backend.xp.stack([leaf] * streams), state)
    given: list[Any] = [Auto(), RTRL()]
    if streams:
        given = [Streams(each, streams) for each in given]
    else:
        given.append("auto")
    items = np.linspace(0.1, 0.9, 4 * (streams or 1)).reshape(4, *([streams] if streams else []))
    ends = []
    for estimator in given:
        learner = Learner(dynamics, estimator, SGD(0.1), params, state, loss=loss)
        for item in items:
            learner.predict(item)
            learner.learn(item)
        assert learner.estimator == given[1]
        ends.append(backend.to_host(learner.params))
    for end in ends[1:]:
        assert all(np.array_equal(end[leaf], ends[0][leaf]) for leaf in end)


def test_a_learner_says_what_was_chosen_and_is_restored_by_an_item() -> None:
    backend = load_backend("autograd")
    dynamics, params, state = _network(backend, 5)

    def made() -> Learner:
        loss = lambda output, target: (output - target) ** 2  # noqa: E731
        return Learner(dynamics, "auto", SGD(0.1), params, state, loss=loss)

    learner = made()
    assert "Auto()" in learner.describe()
    learner.predict(0.3)
    learner.learn(0.1)
    assert "RTRL(), chosen by 'auto'" in learner.describe()
    again = made()
    with pytest.raises(SettingError, match="expected an item of the stream"):
        again.restore(learner.export())
    again.restore(learner.export(), inputs=0.2)
    assert again.predict(0.7) == learner.predict(0.7)


@pytest.mark.parametrize("late", [False, True])
def test_online_chooses_at_the_first_step(late: bool) -> None:
    import torch
    from torch.nn.functional import mse_loss
    from uoro_torch import Online

    ends = []
    for estimator in (None, "auto", "rtrl", RTRL()):
        torch.manual_seed(0)
        cell = torch.nn.GRUCell(2, 3).double()
        online = Online.for_module(
            cell, mse_loss if late else None, torch.zeros(3).double(), estimator=estimator
        )
        x, y = torch.ones(2).double(), torch.ones(3).double()
        for _ in range(3):
            if late:
                online.step(x, y)
            else:
                mse_loss(online(x), y).backward()  # type: ignore[no-untyped-call]
        assert online.estimator == RTRL()
        assert ("chosen by 'auto'" in online.describe()) == (estimator in (None, "auto"))
        ends.append([param.grad for param in cell.parameters() if param.grad is not None])
        assert len(ends[-1]) == 4
    for end in ends[1:]:
        assert all(map(torch.equal, end, ends[0]))


def test_online_chooses_for_one_of_several_streams_and_loads_what_was_saved() -> None:
    import torch
    from uoro_torch import Online

    torch.manual_seed(0)
    cell = torch.nn.GRUCell(2, 40)

    def made() -> Online:
        return Online.for_module(cell, state=torch.zeros(2, 40), streams=2)

    online, again = made(), made()
    online(torch.ones(2, 2)).sum().backward()
    assert online.estimator == Streams(KroneckerSum(2), 2)
    again.load_state_dict(online.state_dict())
    assert torch.equal(online(torch.ones(2, 2)), again(torch.ones(2, 2)))
    assert again.estimator == online.estimator


@pytest.mark.parametrize("estimator", [None, "auto"])
def test_jax_chooses_by_the_item_of_init(estimator: str | None) -> None:
    import jax
    import jax.numpy as jnp
    from uoro_jax import online

    def transition(params: Any, state: Any, x: Any) -> Any:
        state = jnp.tanh(params["w"] @ state + params["u"] * x)
        return state, state.sum()

    core, exact = online(transition, estimator), online(transition, RTRL())
    params = {"w": 0.3 * jnp.eye(3), "u": jnp.ones(3)}
    with pytest.raises(SettingError, match="expected an item of the stream"):
        core.init(params, jnp.zeros(3))
    carries = [each.init(params, jnp.zeros(3), item=0.1) for each in (core, exact)]
    for number in range(3):
        gradients = []
        for i, each in enumerate((core, exact)):

            @jax.jit
            def step(params: Any, carry: Any, each: Any = each, number: int = number) -> Any:
                return jax.grad(
                    lambda params: each(params, carry, 0.5, jax.random.key(number))[::-1],
                    has_aux=True,
                )(params)

            gradient, carries[i] = step(params, carries[i])
            gradients.append(gradient)
        assert all(jnp.array_equal(gradients[0][leaf], gradients[1][leaf]) for leaf in params)
    assert "RTRL(), chosen by 'auto'" in core.describe()
    wide = {"w": jnp.eye(64), "u": jnp.ones(64)}
    core.init(wide, jnp.zeros(64), item=0.1)  # One function, models of several sizes.
    assert "KroneckerSum" in core.describe()


def _counted(monkeypatch: pytest.MonkeyPatch, module: Any) -> list[Any]:
    """Return a list that grows by an entry for each choice in a module."""
    found: list[Any] = []
    plain = module.chosen_for

    def choose_and_count(*given: Any) -> Any:
        found.append(given)
        return plain(*given)

    monkeypatch.setattr(module, "chosen_for", choose_and_count)
    return found


def test_a_jax_step_chooses_once(monkeypatch: pytest.MonkeyPatch) -> None:
    import jax
    import jax.numpy as jnp
    from uoro_jax import online, online_gradient

    def transition(params: Any, state: Any, x: Any) -> Any:
        state = jnp.tanh(params["w"] @ state + params["u"] * x)
        return state, state.sum()

    core, key = online(transition), jax.random.key(0)
    params = {"w": 0.3 * jnp.eye(3), "u": jnp.ones(3)}
    carry = core.init(params, jnp.zeros(3), item=0.1)
    choices = _counted(monkeypatch, online_gradient)
    core.step(params, carry, 0.5, key)
    assert len(choices) == 1
    _, _, one = core.predict(params, carry, 0.5, key)
    assert len(choices) == 2
    gradient = jax.grad(lambda params: core(params, carry, 0.5, key)[1])(params)
    assert len(choices) == 3
    assert jnp.array_equal(one(1.0)["w"], gradient["w"])
    *_, other = core.predict(params, carry, 0.2, key)
    forms: list[Any] = [jax.tree.structure(each) for each in (one, other)]
    assert forms[0] == forms[1]


def test_online_chooses_once_for_steps_with_and_without_a_loss(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import torch
    from torch.nn.functional import mse_loss
    from uoro_torch import Online

    from uoro.estimators import chosen

    choices = _counted(monkeypatch, chosen)
    online = Online.for_module(torch.nn.GRUCell(2, 3), mse_loss, torch.zeros(3))
    x, y = torch.ones(2), torch.ones(3)
    mse_loss(online(x), y).backward()  # type: ignore[no-untyped-call]
    online.step(x, y)
    assert len(choices) == 1


@pytest.mark.parametrize(
    ("estimator", "needs"),
    [
        (UORO(), False),
        (UORO(baseline="diagonal"), True),
        (JointUORO(2), False),
        (RTRL(), False),
        (Truncated(), False),
        (RollingTruncated(1), False),
        (RollingTruncated(2), True),
        (KroneckerSum(2), True),
        (BlockRTRL(), True),
        (SnAp(), True),
        (Shadowed(UORO(), RTRL()), False),
        (Shadowed(UORO(), RollingTruncated(2)), True),
        (Traces(SnAp(), 0.9, 0.9), True),
    ],
    ids=str,
)
def test_an_estimator_says_whether_its_carry_needs_an_item(estimator: Any, needs: bool) -> None:
    backend = load_backend("autograd")
    dynamics, params, state = _network(backend, 3, mixes=False)
    stack = backend.map(lambda leaf: backend.xp.stack([leaf] * 2), state)
    given = [(estimator, state)]
    if not isinstance(estimator, Traces):
        given.append((Streams(estimator, 2), stack))
    for each, start in given:
        assert needs_item(each) == needs
        if needs:
            with pytest.raises(SettingError, match="expected an item of the stream"):
                each.init(dynamics, params, start)
        else:
            each.init(dynamics, params, start)
    assert needs_item(Auto())


def test_names_are_estimators_and_what_takes_several_items_is_refused() -> None:
    import torch
    from uoro_torch import Online

    made = Online.for_module(torch.nn.GRUCell(2, 3), state=torch.zeros(3), estimator="joint:4")
    assert made.estimator == JointUORO(4)
    with pytest.raises(SettingError, match="one item a step, got 'tbptt:4'"):
        Online.for_module(torch.nn.GRUCell(2, 3), state=torch.zeros(3), estimator="tbptt:4")


def test_an_estimator_that_is_to_be_chosen_is_refused_where_one_is_needed() -> None:
    auto: Any = Auto()
    assert not any(hasattr(auto, method) for method in ("init", "draw", "step"))
    backend = load_backend("autograd")
    dynamics, params, state = _network(backend, 3)
    stack = backend.map(lambda leaf: backend.xp.stack([leaf] * 2), state)
    starts: list[Any] = [(params, state)]
    needs: list[Callable[[], Any]] = [
        lambda: KroneckerSum(2, rest=auto),
        lambda: Traces(auto, 0.9, 0.9),
        lambda: Shadowed(RTRL(), auto),
        lambda: Replicas(dynamics, auto, SGD(0.1), starts, seeds=[0]),
        lambda: Streams(auto, 2).init(dynamics, params, stack),
        lambda: check_model(dynamics, params, state, [0.1], estimator=auto),
        lambda: suggest(dynamics, params, state, [0.1] * 99, estimators=["auto"]),
    ]
    for need in needs:
        with pytest.raises(SettingError, match="an estimator, got 'auto', which is still to be"):
            need()


class _Blocks:
    """A stream of blocks without a position."""

    def __init__(self) -> None:
        self.next = 0

    def __iter__(self) -> Iterator[int]:
        return self

    def __next__(self) -> int:
        return int(self.take(1)[0])

    def take(self, number: int) -> Any:
        self.next += number
        return np.arange(self.next - number, self.next)


@pytest.mark.parametrize(
    "stream", [[0, 1, 2], iter([0, 1, 2]), count(), _Blocks()], ids=lambda each: type(each).__name__
)
def test_a_peek_loses_no_item(stream: Any) -> None:
    first, stream = peek(load_backend("autograd"), stream)
    assert first == 0
    items = iter(stream)
    assert [int(next(items)) for _ in range(3)] == [0, 1, 2]


def test_a_run_records_what_was_chosen(tmp_path: Path) -> None:
    from uoro.training import Run, Settings

    settings = Settings(
        task="anbn", backend="autograd", steps=3, network=Settings(task="x").network
    )
    run = Run(settings, tmp_path / "run")
    assert run.settings.estimator == "kron:2"
    assert run.chosen is not None
    run.go()
    again = Run(None, tmp_path / "run", resume=True)
    assert again.settings.estimator == "kron:2"
    assert again.chosen is None
