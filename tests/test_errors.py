"""Bad input: what was called, what was expected, what was got, what to do."""

from __future__ import annotations

import builtins
import sys
from importlib.metadata import EntryPoint
from typing import Any

import numpy as np
import pytest

from uoro import (
    SGD,
    UORO,
    Backend,
    JointUORO,
    Learner,
    Streams,
    UOROError,
    load_backend,
    registry,
    unroll,
)
from uoro.errors import (
    BrokenBackendError,
    MissingFrameworkError,
    SettingError,
    StructureError,
    UnknownNameError,
)
from uoro.lab.compare import parse_estimator, split_estimators
from uoro.models import GRU, InfluenceBalancing, SymbolModel


def test_an_unknown_backend_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match=r"no backend 'jaxx'\. Did you mean 'jax'\?"):
        load_backend("jaxx")
    assert issubclass(UnknownNameError, ValueError)
    assert issubclass(UnknownNameError, UOROError)


@pytest.mark.parametrize("name", ["torch", "jax", "autograd"])
def test_a_missing_framework_names_the_extra(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    for module in [m for m in sys.modules if m.partition(".")[0] in (f"uoro_{name}", name)]:
        monkeypatch.delitem(sys.modules, module)
    real = builtins.__import__

    def without(module: str, *rest: Any, **options: Any) -> Any:
        if module.partition(".")[0] == name:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(module, *rest, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    wanted = rf"'{name}' is not installed\. Try: pip install 'uoro\[{name}\]'"
    with pytest.raises(MissingFrameworkError, match=wanted) as caught:
        load_backend(name)
    assert isinstance(caught.value, ImportError)


def test_a_third_partys_missing_module_names_its_distribution(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    entry = EntryPoint("mine", "no_such_module_anywhere:Backend", "uoro.backends")
    monkeypatch.setattr(registry, "registered_backends", lambda: {"mine": entry})
    with pytest.raises(MissingFrameworkError, match="pip install 'mine'"):
        load_backend("mine")


def test_a_backend_that_cannot_be_loaded_breaks_nobody_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from uoro.cli import backends as listing

    entries = {
        "broken": EntryPoint("broken", "uoro_autograd:NoSuchClass", "uoro.backends"),
        "autograd": EntryPoint("autograd", "uoro_autograd:AutogradBackend", "uoro.backends"),
    }
    monkeypatch.setattr(registry, "registered_backends", lambda: entries)
    monkeypatch.setattr(listing, "registered_backends", lambda: entries)
    with pytest.raises(BrokenBackendError, match=r"uoro_autograd:NoSuchClass.*AttributeError"):
        load_backend("broken")
    assert listing.installed_backends() == ["autograd"]


@pytest.mark.parametrize("name", ["autograd", "torch", "jax"])
def test_an_unknown_device_is_refused(name: str) -> None:
    with pytest.raises(SettingError, match="got 'quantum"):
        load_backend(name, device="quantum:7")


@pytest.mark.parametrize(
    ("transition", "message"),
    [
        (lambda p, s, x: s, "returned value: expected a tuple"),
        (lambda p, s, x: (s, s.sum(), 1.0), "a tuple of 3.*has_aux=True"),
        (lambda p, s, x: ({"h": s}, s.sum()), r"next_state: expected the leaves .*, got \['h'\]"),
        (lambda p, s, x: (0.5, s.sum()), r"next_state: the array: expected an array, got 0\.5"),
        (lambda p, s, x: (s[:2], s.sum()), r"expected shape \(3,\), got \(2,\)"),
        (lambda p, s, x: (s > 0, s.sum()), r"expected dtype .*float64, got .*bool"),
        (lambda p, s, x: (s, 0.0), r"loss: expected a scalar array of the framework, got 0\.0"),
        (lambda p, s, x: (s, None), r"loss: expected a scalar array of the framework, got None"),
        (lambda p, s, x: (s, {"y": s, "z": 0.0}), r"'z' of the output: expected an array"),
    ],
)
def test_a_transition_that_breaks_its_contract(
    backend: Backend, transition: Any, message: str
) -> None:
    dynamics = backend.dynamics(transition)
    params, state = backend.from_host(np.array(1.0)), backend.from_host(np.zeros(3))
    for call in (
        lambda: dynamics.forward(params, state, None),
        lambda: UORO().step(
            dynamics, params, UORO().init(dynamics, params, state), state, None, state
        ),
        lambda: Learner(dynamics, UORO(), SGD(0.1), params, state).step(np.zeros(())),
    ):
        with pytest.raises(StructureError, match=message):
            call()


def test_a_step_refuses_an_output_that_is_no_loss(backend: Backend) -> None:
    params, state = backend.from_host(np.array(1.0)), backend.from_host(np.zeros(3))
    dynamics = backend.dynamics(lambda p, s, x: (s, p * s))
    assert tuple(dynamics.forward(params, state, None).output.shape) == (3,)
    carry = UORO().init(dynamics, params, state)
    message = r"loss: expected a scalar array of the framework, got shape \(3,\).*use advance"
    for call in (
        lambda: UORO().step(dynamics, params, carry, state, None, state),
        lambda: Learner(dynamics, UORO(), SGD(0.1), params, state).step(np.zeros(())),
        lambda: Streams(UORO(), 2).step(
            dynamics, params, *backend.collect([(carry, state, state, state)] * 2)
        ),
    ):
        with pytest.raises(StructureError, match=message):
            call()


def test_a_state_whose_shape_changes_later_is_caught_then(backend: Backend) -> None:
    def transition(params: Any, state: Any, item: Any) -> Any:
        grown = backend.xp.concatenate([state, state]) if item.shape == (2,) else state
        return params * grown, grown.sum()

    learner = Learner(
        backend.dynamics(transition),
        UORO(),
        SGD(0.1),
        backend.from_host(np.array(0.5)),
        backend.from_host(np.ones(3)),
    )
    learner.step(np.zeros(1))
    with pytest.raises(StructureError, match=r"expected shape \(3,\), got \(6,\)"):
        learner.step(np.zeros(2))
    assert learner.steps == 1


def test_estimators_are_named_as_people_write_them() -> None:
    assert parse_estimator("uoro:rank=4").estimator == UORO(rank=4)
    assert parse_estimator("uoro:memory=16").span == 16
    gaussian, joint = UORO(rank=2, distribution="gaussian"), JointUORO(4)
    for name in ("uoro:rank=2,distribution=gaussian", "uoro:rank=2,law=gaussian"):
        assert parse_estimator(name).estimator == gaussian
    for name in ("joint:4", "uoro:rank=4,reduction=optimal"):
        assert parse_estimator(name).estimator == joint
    scaled = parse_estimator("joint:4,scaling=rows,memory=3")
    assert (scaled.estimator, scaled.span) == (JointUORO(4, scaling="rows"), 3)
    assert type(parse_estimator("rtrl").estimator).__name__ == "RTRL"
    assert parse_estimator("tbptt:10").span == 10
    assert parse_estimator("tbptt:10,chunked").span == 10
    rolling = parse_estimator("tbptt:10,rolling")
    assert (rolling.span, getattr(rolling.estimator, "window", None)) == (1, 10)
    assert parse_estimator("bptt").span is None
    assert split_estimators(["uoro,tbptt:3,rolling", "uoro:rank=2,memory=3,bptt"]) == [
        "uoro",
        "tbptt:3,rolling",
        "uoro:rank=2,memory=3",
        "bptt",
    ]


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("ouro", "Did you mean 'uoro'"),
        ("tbppt:3", "Did you mean 'tbptt'"),
        ("uoro:rank=0", "rank: expected an integer >= 1, got '0'"),
        ("uoro:memory=0", "memory: expected an integer >= 1, got '0'"),
        ("uoro:rank=two", "rank: expected an integer >= 1, got 'two'"),
        ("uoro:depth=2", "expected the options rank=.*, got 'depth=2'"),
        ("uoro:law=cauchy", "distribution: expected one of"),
        ("tbptt", "expected one length.*got ''"),
        ("tbptt:0", "length: expected an integer >= 1, got '0'"),
        ("tbptt:3,4", "expected one length.*got '3,4'"),
        ("joint", "expected one rank, as in 'joint:4', got 0"),
        ("joint:2,4", "expected one rank, as in 'joint:4', got 2"),
        ("joint:x", "rank: expected an integer >= 1, got 'x'"),
        ("joint:2,distribution=gaussian", "expected the options memory=.*got 'distribution=g"),
        ("uoro:rank=2,rank=3", "expected 'rank' once"),
        ("uoro:reduction=optimal,law=gaussian", "Try 'joint:1'"),
        ("rtrl:3", "expected 'rtrl' alone, got options 3"),
    ],
)
def test_estimator_names_that_mean_nothing(written: str, message: str) -> None:
    with pytest.raises((UnknownNameError, SettingError), match=message):
        parse_estimator(written)


def test_models_of_no_size_are_refused() -> None:
    for make in (
        lambda: InfluenceBalancing(3, 4),
        lambda: InfluenceBalancing(0, 0),
        lambda: SymbolModel((), 3),
        lambda: SymbolModel((GRU(0),), 3),
        lambda: SymbolModel((GRU(2),), 1),
    ):
        with pytest.raises(
            SettingError, match=r"expected an integer [<>]= |a tuple of at least one layer"
        ):
            make()


def test_things_passed_in_the_wrong_place_say_what_was_expected(backend: Backend) -> None:
    dynamics = backend.dynamics(lambda p, s, x: (p * s, s.sum()))
    theta, state = backend.from_host(np.array(0.5)), backend.from_host(np.ones(3))
    wrong: Any = UORO
    with pytest.raises(
        SettingError,
        match=r"estimator: expected a uoro\.Estimator.*got the class UORO.*UORO\(\.\.\.\)",
    ):
        Learner(dynamics, wrong, SGD(0.1), theta, state)
    wrong = SGD
    with pytest.raises(
        SettingError,
        match=r"optimizer: expected a uoro\.Optimizer.*got the class SGD.*SGD\(\.\.\.\)",
    ):
        Learner(dynamics, UORO(), wrong, theta, state)
    wrong = abs
    with pytest.raises(SettingError, match=r"load_backend\(name\)\.dynamics\(transition\)"):
        Learner(wrong, UORO(), SGD(0.1), theta, state)
    wrong = 3
    with pytest.raises(
        StructureError, match=r"backend\.dynamics\(3\): transition: expected a function .*, got 3"
    ):
        backend.dynamics(wrong)
    wrong = "1e-3"
    with pytest.raises(SettingError, match="learning rate: expected a positive, finite number"):
        SGD(wrong)


def test_a_state_that_turns_from_a_tuple_into_a_list_is_refused(backend: Backend) -> None:
    dynamics = backend.dynamics(lambda p, s, x: ([p * s[0]], s[0].sum()))
    theta, state = backend.from_host(np.array(0.5)), (backend.from_host(np.ones(3)),)
    with pytest.raises(StructureError, match="expected a tuple, got a list"):
        dynamics.forward(theta, state, None)


def test_a_cotangent_of_another_shape_is_refused(backend: Backend) -> None:
    """Broadcast without a word, it would be a wrong gradient without a sign of it."""
    dynamics = backend.dynamics(lambda w, s, x: (w * s, (w * s).sum()))
    state = backend.from_host(np.ones(2))
    _, pullback = dynamics.vjp(backend.from_host(np.array(0.5)), state, None)
    with pytest.raises((UOROError, ValueError, TypeError, RuntimeError), match=r"shape|match"):
        pullback(backend.from_host(np.ones((3, 2))), None)


def test_unrolling_without_items_says_so(backend: Backend) -> None:
    dynamics = backend.dynamics(lambda w, s, x: (w * s, (w * s).sum()))
    w, state = backend.from_host(np.array(0.5)), backend.from_host(np.ones(2))
    with pytest.raises(
        StructureError, match="inputs: expected a stack of 3 items of the stream, got no array"
    ):
        unroll(dynamics, 3).forward(w, state, None)
