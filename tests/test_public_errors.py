"""Whatever is thrown at the public surface, it succeeds or raises an error of the library's own."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from contextlib import chdir, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from uoro_autograd import AutogradBackend
from uoro_jax import (
    JaxBackend,
    OptaxOptimizer,
    ShardedStreams,
    from_apply,
    from_module,
    online,
)
from uoro_torch import (
    DistributedStreams,
    Online,
    SingleStep,
    TorchBackend,
    TorchOptimizer,
    lift_state,
    module_transition,
)
from uoro_torch.module import ModuleTransition

from uoro import (
    RTRL,
    SGD,
    UORO,
    Adam,
    Clipped,
    JointUORO,
    Learner,
    RollingTruncated,
    Streams,
    TruncatedBPTT,
    UOROError,
    load_backend,
    suggest,
    suggest_rank,
    unroll,
)
from uoro.cli import bench as bench_command
from uoro.cli import compare as compare_command
from uoro.cli import reproduce as reproduce_command
from uoro.cli.app import run
from uoro.estimators import Truncated, bptt
from uoro.lab import Replicas
from uoro.lab.bench import BenchDocument, BenchPlan
from uoro.lab.bench.rows import parse_row
from uoro.lab.compare import (
    Comparison,
    compare,
    draw,
    parse_estimator,
    split_estimators,
    write_json,
)
from uoro.lab.reproduce import ReproductionPlan, find, report
from uoro.learning.windows import Windows
from uoro.models import GRU, LSTM, InfluenceBalancing, SymbolModel, Tanh
from uoro.schedules import as_schedule, constant, inverse, inverse_sqrt
from uoro.tasks import (
    AnBn,
    Copy,
    DistantBrackets,
    Network,
    Recall,
    Text,
    anbn,
    copying,
    distant_brackets,
    influence_balancing,
    recall,
    text,
)

BACKENDS: dict[str, Any] = {
    "autograd": AutogradBackend(),
    "torch": TorchBackend(),
    "jax": JaxBackend(),
}
REFERENCE: Any = BACKENDS["autograd"]


pytestmark = pytest.mark.filterwarnings("ignore:suggest_rank:DeprecationWarning")

ODDITIES: tuple[Any, ...] = (
    None, True, False, 0, -1, 2, 10**30, -(10**30), 2**63, 0.0, -0.0, 0.5, -1.5, 1e300, 1j,
    math.nan, math.inf, -math.inf, "", "a", "0", "1e-3", "uoro", "cpu", "cuda:99", "a\nb", "\0",
    "\ud800", "x" * 300, b"", b"ab", (), [], {}, (1,), [1, "a"], [[1.0], [1.0, 2.0]], {"a": 1},
    {1: 2, "b": 3}, {"theta": None}, {"steps": 1}, frozenset({1}), range(3), slice(2), ...,
    object(), int, UORO, Streams, Exception("e"), len, print, np, np.float32(0.5), np.int64(-3),
    np.bool_(True), np.array(2.0), np.array(3), np.zeros(0), np.zeros(2), np.ones((3, 4)),
    np.ones(2) > 0, np.full(2, np.nan), np.array(["a", "b"]), np.array([None, 1]),
    np.zeros(2, complex), np.zeros(2, np.int8), np.datetime64("2020-01-01"),
    torch.ones(2), torch.tensor(1.5), torch.ones(2, 2) > 0, torch.ones(2, requires_grad=True),
    jnp.ones(2), jnp.array(1), jax.random.key(0), UORO(), SGD(1.0), REFERENCE, (UORO(), 3),
    Path("nowhere", "here"), [np.ones(2), np.ones(3)], {"a": np.ones(2)}, {"w": torch.ones(2)},
    {"w": "x"}, [float, "b"],
)  # fmt: skip
"""One of each kind that people pass by mistake."""

JUNK = st.one_of(
    st.sampled_from(ODDITIES),
    st.builds(lambda: (i for i in range(3))),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
    st.recursive(
        st.sampled_from(ODDITIES),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner),
        max_leaves=4,
    ),
)

QUICK = settings(
    derandomize=True,
    deadline=None,
    database=None,
    max_examples=100,
    suppress_health_check=list(HealthCheck),
)


@dataclass(frozen=True)
class Call:
    """A public call that is good as it stands.

    Attributes:
        name: As people write it.
        function: What is called.
        good: Makes arguments it takes, anew for each call.
        places: Which of them are made bad, one at a time; all unless said.
    """

    name: str
    function: Callable[..., Any]
    good: Callable[[], dict[str, Any]] = field(repr=False)
    places: tuple[str, ...] = ()

    def with_junk(self, place: str, value: Any) -> None:
        """Make the call with one argument replaced: it does what it does, or names its mistake."""
        try:
            with np.errstate(over="ignore", invalid="ignore"):
                self.function(**self.good() | {place: value})
        except UOROError as error:
            message = str(error)
            assert len(message.split()) > 4, f"{self.name}({place}=...) says only {message!r}."
        except Exception as error:
            raise AssertionError(
                f"{self.name}({place}={value!r}) raised {type(error).__name__}: {error}"
            ) from error


def transition(params: Any, state: Any, inputs: Any) -> Any:
    next_state = params * state + inputs
    return next_state, (next_state**2).sum()


IDLE: Any = REFERENCE.dynamics(lambda params, state, item: (params * state, state.sum()))
"""A model that does not care what its items are."""


def made(backend: Any = REFERENCE) -> dict[str, Any]:
    """Dynamics, params, state and item."""
    return {
        "dynamics": backend.dynamics(transition, check=False),
        "params": backend.from_host(np.array(0.5)),
        "state": backend.from_host(np.ones(2)),
        "inputs": backend.from_host(np.array(1.0)),
    }


def started(estimator: Any, **more: Any) -> Callable[[], dict[str, Any]]:
    def good() -> dict[str, Any]:
        arguments = made()
        carry = estimator.init(**arguments)
        return arguments | {"carry": carry, "signs": None} | more

    return good


def given_model() -> dict[str, Any]:
    arguments = made()
    return {name: arguments[name] for name in ("dynamics", "params", "state")}


def stacks(count: int = 2) -> dict[str, Any]:
    return made() | {"state": np.ones((count, 2)), "inputs": np.ones(count)}


def replicas(**given: Any) -> Replicas:
    arguments: dict[str, Any] = {
        "dynamics": made()["dynamics"],
        "estimator": UORO(),
        "optimizer": SGD(1e-3),
        "starts": [(np.array(0.5), np.ones(2))] * 2,
        "seeds": [0, 1],
    }
    return Replicas(**arguments | given)


def run_replicas(*, report: Any, **given: Any) -> int:
    """What a function of the user's raises is the user's own affair, here as elsewhere."""
    return replicas().run(report=(lambda *_: None) if callable(report) else report, **given)


class Small(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.core = torch.nn.GRUCell(2, 2)

    def forward(self, given: Any, state: Any) -> Any:
        state = self.core(given, state)
        return state, state


class Traced(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.trace = torch.zeros(2)

    def forward(self, given: Any) -> Any:
        self.trace = 0.5 * self.trace + given
        return self.trace


def squared(output: Any, target: Any) -> Any:
    return ((output - target) ** 2).mean()


def online_function(**given: Any) -> Any:
    good: dict[str, Any] = {
        "transition": lambda params, state, x: transition(params["w"], state, x),
        "params": {"w": torch.ones(2)},
        "state": torch.ones(2),
    }
    return Online(**good | given)


def online_module(**given: Any) -> Any:
    good: dict[str, Any] = {"module": Small(), "loss": squared, "state": torch.zeros(2)}
    return Online.for_module(**good | given)


def online_streams() -> Any:
    return Online.for_module(Small(), squared, torch.zeros(3, 2), streams=3, estimator=UORO())


def saved() -> dict[str, Any]:
    given: dict[str, Any] = online_function().state_dict()
    return given


def load_changed(name: str, value: Any) -> None:
    online_function().load_state_dict(saved() | {name: value})


def comparison(**given: Any) -> Comparison:
    good: dict[str, Any] = {
        "task": influence_balancing(units=2, minus=1),
        "backends": [REFERENCE],
        "choices": [parse_estimator("uoro")],
        "steps": 10,
        "eager_steps": 10,
        "seed": 0,
        "dtype": "float64",
    }
    return Comparison(**good | given)


def gradient() -> Any:
    return online(lambda params, state, item: (params * state + item, (state**2).sum()), UORO())


def nnx_module() -> Any:
    from flax import nnx

    class Cell(nnx.Module):
        def __init__(self) -> None:
            self.map = nnx.Linear(2, 2, rngs=nnx.Rngs(0))

        def __call__(self, given: Any, state: Any) -> Any:
            return state, jnp.tanh(self.map(state) + given)

    return Cell()


BOOK = Path(__file__)
PARTIAL: Any = jax.tree_util.Partial


CALLS = [
    # What estimates.
    Call("UORO", UORO, lambda: {"rank": 1, "distribution": "signs", "epsilon": 1e-7,
         "pair_dtype": None, "scaling": None}),
    Call("JointUORO", JointUORO, lambda: {"rank": 2, "pair_dtype": None, "scaling": None}),
    Call("TruncatedBPTT", TruncatedBPTT, lambda: {"span": 2}),
    Call("RollingTruncated", RollingTruncated, lambda: {"window": 2}),
    Call("Streams", Streams, lambda: {"estimator": UORO(), "count": 2}),
    Call("unroll", unroll, lambda: {"dynamics": made()["dynamics"], "length": 2}),
    Call("unroll.forward", lambda **given: unroll(IDLE, 2).forward(**given),
         lambda: {"params": np.array(0.5), "state": np.ones(2), "inputs": np.ones(2)},
         ("inputs",)),
    Call("bptt", bptt, lambda: given_model() | {"dynamics": IDLE, "sequence": np.ones(3)},
         ("dynamics", "sequence")),
    *(
        Call(f"{type(estimator).__name__}.init", estimator.init, made,
             ("dynamics", "params", "state"))
        for estimator in (
            UORO(), UORO(pair_dtype="float32"), RTRL(), Truncated(), RollingTruncated(3)
        )
    ),
    Call("UORO.step", UORO().step, started(UORO(), signs=np.ones(2)), ("carry", "signs")),
    Call("JointUORO.step", JointUORO(1).step, started(JointUORO(1), signs=np.ones((2, 2))),
         ("carry", "signs")),
    Call("RTRL.step", RTRL().step, started(RTRL()), ("carry",)),
    Call("RollingTruncated.step", RollingTruncated(3).step, started(RollingTruncated(3)),
         ("carry",)),
    Call("Streams.init", Streams(UORO(), 2).init, stacks, ("dynamics", "state", "inputs")),
    # What follows the gradient.
    Call("SGD", SGD, lambda: {"learning_rate": 0.1}),
    Call("Adam", Adam, lambda: {"learning_rate": 0.1, "b1": 0.9, "b2": 0.9, "eps": 1e-8}),
    Call("Clipped", Clipped, lambda: {"optimizer": SGD(0.1), "max_norm": 1.0}),
    Call("constant", constant, lambda: {"learning_rate": 0.1}),
    Call("inverse_sqrt", inverse_sqrt, lambda: {"learning_rate": 0.1, "decay": 1.0}),
    Call("inverse", inverse, lambda: {"learning_rate": 0.1, "decay": 1.0}),
    Call("as_schedule", as_schedule, lambda: {"learning_rate": 0.1, "call": "f"},
         ("learning_rate",)),
    # What runs it.
    Call("Replicas", replicas, lambda: {"dynamics": made()["dynamics"], "estimator": UORO(),
         "optimizer": SGD(1.0), "starts": [(np.array(0.5), np.ones(2))], "seeds": [0]}),
    Call("Replicas.run", run_replicas, lambda: {"streams": [np.ones(3), np.ones(3)], "steps": 2,
         "chunk": 2, "report": None}),
    # Backends.
    *(Call(type(b).__name__, type(b), lambda: {"device": "cpu"}) for b in BACKENDS.values()),
    *(
        call
        for name, b in BACKENDS.items()
        for call in (
            Call(f"load_backend({name!r})", partial(load_backend, name),
                 lambda: {"device": "cpu"}),
            Call(f"{name}.dynamics", b.dynamics, lambda: {"transition": transition,
                 "has_aux": False, "check": True}),
            Call(f"{name}.key", b.key, lambda: {"seed": 0}),
            Call(f"{name}.precision", b.precision, lambda: {"dtype": "float32"}),
            Call(f"{name}.from_host", b.from_host, lambda: {"tree": 1.0, "dtype": "float32"}),
            Call(f"{name}.collect", b.collect, lambda: {"items": [1.0, 2.0]}),
        )
    ),
    # Tasks and models.
    Call("AnBn", AnBn, lambda: {"k": 1, "l": 3}),
    Call("AnBn.stream", AnBn().stream, lambda: {"seed": 0}),
    Call("DistantBrackets", DistantBrackets, lambda: {"s": 1, "k": 5, "a": 10}),
    Call("DistantBrackets.stream", DistantBrackets().stream, lambda: {"seed": 0}),
    Call("Copy", Copy, lambda: {"lag": 5, "a": 8}),
    Call("Copy.stream", Copy().stream, lambda: {"seed": 0}),
    Call("anbn", anbn, lambda: {"k": 1, "l": 3, "learning_rate": 0.1, "decay": 0.0}),
    Call("distant_brackets", distant_brackets,
         lambda: {"s": 1, "k": 5, "a": 9, "learning_rate": 0.1, "decay": 0.0}),
    Call("copying", copying, lambda: {"lag": 5, "a": 8, "learning_rate": 0.1, "decay": 0.0}),
    Call("Recall", Recall, lambda: {"low": 1, "high": 3}),
    Call("Recall.stream", Recall().stream, lambda: {"seed": 0}),
    Call("recall", recall, lambda: {"low": 1, "high": 3, "learning_rate": 0.1}),
    Call("influence_balancing", influence_balancing,
         lambda: {"units": 4, "minus": 1, "learning_rate": 0.1}),
    Call("text", text, lambda: {"paths": [BOOK], "learning_rate": 0.1, "decay": 0.0},
         ("learning_rate", "decay")),
    Call("InfluenceBalancing", InfluenceBalancing, lambda: {"units": 4, "minus": 1}),
    Call("Tanh", Tanh, lambda: {"units": 4}),
    Call("GRU", GRU, lambda: {"units": 4}),
    Call("LSTM", LSTM, lambda: {"units": 4, "forget_bias": 0.0}),
    Call("SymbolModel", SymbolModel, lambda: {"cells": (GRU(2),), "alphabet": 3}),
    Call("SymbolModel.init", SymbolModel((GRU(2),), 3).init,
         lambda: {"generator": np.random.default_rng(0)}),
    # Experiments.
    Call("parse_estimator", parse_estimator, lambda: {"written": "uoro"}),
    Call("split_estimators", split_estimators, lambda: {"written": ["uoro"]}),
    Call("parse_row", parse_row, lambda: {"written": "uoro"}),
    Call("uoro.lab.compare.Comparison", comparison, lambda: {"task": anbn(),
         "backends": [REFERENCE], "choices": [parse_estimator("rtrl")], "steps": 3,
         "eager_steps": 3, "seed": 0, "dtype": "float32"}),
    Call("compare", lambda **given: next(compare(**given)), lambda: {"plan": comparison(),
         "progress": lambda *_: lambda *_: None}, ("plan",)),
    Call("write_json", write_json, lambda: {"path": Path("a.json"), "plan": comparison(),
         "cells": [], "complete": True}, ("path", "plan")),
    Call("draw", draw, lambda: {"path": Path("a.png"), "plan": comparison(), "cells": []},
         ("plan",)),
    Call("uoro.lab.reproduce.ReproductionPlan", ReproductionPlan,
         lambda: {"scale": "quick", "backend": "jax", "device": None, "seeds": 1, "eager": False}),
    Call("find", find, lambda: {"names": ["fig2a"]}),
    Call("report", report, lambda: {"folder": Path("no"), "page": Path("page.md")}),
    Call("BenchPlan", lambda **given: BenchPlan(**given).groups(), lambda: {"backends": ("jax",),
         "cells": ("gru",), "units": (4,), "rows": (), "repetitions": 1, "seconds": 0.1,
         "threads": 1, "alphabet": 3, "dtype": "float32", "device": None}),
    Call("BenchDocument", BenchDocument, lambda: {"path": Path("no.json"), "groups": []},
         ("path",)),
    # PyTorch.
    Call("Online", online_function, lambda: {"transition": transition,
         "params": {"w": torch.ones(2)}, "state": torch.ones(2), "estimator": None, "seed": 0,
         "compile": False}),
    Call("Online.for_module", online_module, lambda: {"module": Small(), "loss": squared,
         "state": torch.zeros(2), "streams": None, "estimator": None, "seed": 0, "check": True,
         "compile": False}),
    Call("Online.reset", lambda **given: online_function().reset(**given), lambda: {"mask": None,
         "state": None}),
    Call("Online.reset of streams", lambda **given: online_streams().reset(**given),
         lambda: {"mask": [True, False, True], "state": None}),
    Call("Online.load_state_dict", lambda **given: online_function().load_state_dict(**given),
         lambda: {"saved": saved()}),
    *(
        Call(f"Online.load_state_dict({name!r})", partial(load_changed, name),
             partial(lambda name: {"value": saved()[name]}, name))
        for name in ("steps", "seed", "state", "carry")
    ),
    Call("TorchOptimizer", TorchOptimizer,
         lambda: {"optimizer": torch.optim.SGD([torch.ones(2)], 0.1)}),
    Call("TorchOptimizer.init", TorchOptimizer(torch.optim.SGD([torch.ones(2)], 0.1)).init,
         lambda: {"backend": BACKENDS["torch"], "params": {}}, ("params",)),
    Call("ModuleTransition", ModuleTransition, lambda: {"module": Small(), "loss": squared}),
    Call("module_transition", module_transition, lambda: {"module": Small(), "loss": squared}),
    Call("lift_state", lift_state, lambda: {"module": Traced(), "input": torch.ones(2)},
         ("module",)),
    Call("SingleStep", SingleStep, lambda: {"core": torch.nn.GRUCell(2, 2)}),
    Call("DistributedStreams", DistributedStreams, lambda: {"estimator": UORO(), "count": 2}),
    # JAX.
    Call("OptaxOptimizer", OptaxOptimizer, lambda: {"transformation": optax.sgd(0.1)}),
    Call("from_module", from_module, lambda: {"module": PARTIAL(
         lambda w, x, s: (s, w * s), jnp.ones(2)), "loss": squared, "state": jnp.ones(2)}),
    Call("from_apply", from_apply, lambda: {"apply": lambda p, x, s: (s, p * s), "loss": squared,
         "params": jnp.ones(2), "state": jnp.ones(2)}),
    Call("from_module", from_module, lambda: {"module": nnx_module(), "loss": squared,
         "state": jnp.ones(2)}),
    Call("online", online, lambda: {"transition": lambda p, s, x: (s, p.sum()),
         "estimator": UORO(), "has_aux": False, "check": True}),
    Call("OnlineGradient.init", gradient().init, lambda: {"params": jnp.ones(2),
         "state": jnp.ones(2)}),
    Call("OnlineGradient.__call__", gradient(), lambda: {"params": jnp.ones(2),
         "carry": gradient().init(jnp.ones(2), jnp.ones(2)), "item": jnp.ones(2),
         "key": jax.random.key(0)}, ("carry", "key")),
    Call("OnlineGradient.predict", gradient().predict, lambda: {"params": jnp.ones(2),
         "carry": gradient().init(jnp.ones(2), jnp.ones(2)), "item": jnp.ones(2),
         "key": jax.random.key(0)}, ("carry", "key")),
    Call("OnlineGradient.step", gradient().step, lambda: {"params": jnp.ones(2),
         "carry": gradient().init(jnp.ones(2), jnp.ones(2)), "item": jnp.ones(2),
         "key": jax.random.key(0)}, ("carry", "key")),
    Call("ShardedStreams", ShardedStreams, lambda: {"estimator": UORO(), "count": 2,
         "mesh": jax.make_mesh((1,), ("streams",)), "axis": None}),
]  # fmt: skip


def learner(**given: Any) -> Learner:
    good = made() | {"estimator": UORO(), "optimizer": SGD(1e-3)}
    del good["inputs"]
    return Learner(**good | given)


CALLS += [
    Call("load_backend", load_backend, lambda: {"name": "autograd"}),
    Call("Learner", learner, lambda: {"dynamics": made()["dynamics"], "estimator": UORO(),
         "optimizer": SGD(1e-3), "params": np.array(0.5), "state": np.ones(2), "seed": 0,
         "loss": None, "signs": None, "donate": False, "compile": False}),
    Call("Learner.step", lambda inputs: learner(dynamics=IDLE).step(inputs),
         lambda: {"inputs": 1.0}),
    Call("Learner.predict", lambda inputs: learner(dynamics=IDLE).predict(inputs),
         lambda: {"inputs": 1.0}),
    Call("Learner.forget", lambda count: learner().forget(count), lambda: {"count": 0}),
    Call("Learner.run", lambda **given: learner(dynamics=IDLE).run(**given),
         lambda: {"stream": np.ones(3), "steps": 2, "chunk": 2}),
    Call("Learner.run without steps", lambda **given: learner(dynamics=IDLE).run(**given),
         lambda: {"stream": np.ones(3), "chunk": 2}, ("chunk",)),
    Call("Learner.reset", lambda **given: learner(estimator=Streams(UORO(), 2),
         state=np.ones((2, 3))).reset(**given),
         lambda: {"mask": np.array([True, False]), "fresh": np.ones((2, 3))}),
    Call("suggest", partial(suggest, replicas=3), lambda: given_model() | {
         "dynamics": IDLE, "items": np.ones(4), "estimators": ["tbptt:1"], "learn": 0,
         "trained": False, "optimizer": None, "noise": None, "seconds": None, "steps": 4,
         "budget": 9.0, "seed": 0, "report": None},
         ("dynamics", "items", "estimators", "learn", "trained", "optimizer", "noise", "seconds",
          "steps", "budget", "seed")),
    Call("suggest_rank", partial(suggest_rank, replicas=3), lambda: given_model() | {
         "dynamics": IDLE, "items": np.ones(4), "noise": None, "seconds": None, "ranks": (1,),
         "steps": 4, "skip": 2, "seed": 0},
         ("dynamics", "items", "noise", "seconds", "ranks", "steps", "skip", "seed")),
    Call("Windows", lambda **given: Windows(**given).take(1),
         lambda: {"backend": REFERENCE, "stream": np.ones(3), "length": 2}),
    Call("Windows.take", Windows(REFERENCE, np.ones(9), 2).take, lambda: {"count": 2}),
    Call("Network", Network, lambda: {"cell": "gru", "units": 4, "layers": 1}),
    Call("anbn(network=...)", anbn, lambda: {"network": Network()}),
    Call("Text.open", Text.open, lambda: {"paths": [BOOK], "encoding": "utf-8"}),
    Call("Text.stream", Text.open([BOOK]).stream, lambda: {"seed": 0}),
    Call("text", text, lambda: {"paths": [BOOK], "encoding": "utf-8", "network": None}),
]  # fmt: skip

PLACES = [
    pytest.param(call, place, id=f"{call.name}-{place}")
    for call in CALLS
    for place in call.places or call.good()
]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path) -> Iterator[None]:
    """Some junk is a path that can be written to."""
    with chdir(tmp_path):
        yield


@pytest.mark.parametrize(("call", "place"), PLACES)
def test_every_oddity_is_taken_or_refused_by_name(call: Call, place: str) -> None:
    for value in ODDITIES:
        call.with_junk(place, value)


@pytest.mark.parametrize(("call", "place"), PLACES)
@settings(QUICK, max_examples=30)
@given(value=JUNK)
def test_junk_is_taken_or_refused_by_name(call: Call, place: str, value: Any) -> None:
    call.with_junk(place, value)


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.name)
def test_what_the_junk_is_put_into_is_good_as_it_stands(call: Call) -> None:
    expected = {"DistributedStreams", "report"}  # Which want processes, and results.
    try:
        call.function(**call.good())
    except UOROError:
        assert call.name in expected


def test_a_call_that_lets_another_error_out_is_noticed() -> None:
    def careless(number: Any) -> Any:
        return number + 1

    call = Call("careless", careless, lambda: {"number": 1})
    with pytest.raises(AssertionError, match=r"careless\(number=None\) raised TypeError"):
        call.with_junk("number", None)

    @QUICK
    @given(value=JUNK)
    def every(value: Any) -> None:
        call.with_junk("number", value)

    with pytest.raises((AssertionError, ExceptionGroup), match=r"careless|distinct failures"):
        every()


def test_a_refusal_that_says_nothing_is_noticed() -> None:
    def curt(number: Any) -> None:
        raise UOROError("bad value")

    with pytest.raises(AssertionError, match="says only 'bad value'"):
        Call("curt", curt, lambda: {"number": 1}).with_junk("number", None)


def test_a_value_that_cannot_be_shown_is_refused_like_any_other() -> None:
    class Unspeakable:
        def __repr__(self) -> str:
            raise RuntimeError("no repr")

    nothing: Any = Unspeakable()
    with pytest.raises(UOROError, match=r"AnBn\(k=a Unspeakable without a repr, l=32\)"):
        AnBn(nothing)
    long: Any = "x" * 1000
    with pytest.raises(UOROError, match="x…, l=32"):
        AnBn(long)
    with pytest.raises(UOROError, match="there is no estimator 'a Unspeakable without"):
        parse_estimator(nothing)


class TheirsError(Exception):
    """An error of the user's own."""


@pytest.mark.parametrize("name", BACKENDS)
def test_errors_of_the_users_model_and_stream_pass_through(name: str) -> None:
    backend = BACKENDS[name]

    def model(params: Any, state: Any, item: Any) -> Any:
        raise TheirsError("in the model")

    def stream() -> Iterator[float]:
        yield 1.0
        raise TheirsError("in the stream")

    start = [(backend.from_host(np.array(0.5)), backend.from_host(np.ones(2)))]
    broken = Replicas(backend.dynamics(model), UORO(), SGD(1e-3), start, seeds=[0])
    with pytest.raises(TheirsError, match="in the model"):
        broken.run([[1.0, 2.0]], 2)
    sound = Replicas(backend.dynamics(transition), UORO(), SGD(1e-3), start, seeds=[0])
    with pytest.raises(TheirsError, match="in the stream"):
        sound.run([stream()], 3)


PIECES = st.sampled_from((
    "uoro", "joint", "tbptt", "rtrl", "bptt", "rank", "memory", "distribution", "rolling",
    "chunked", "gaussian",
    ":", ",", "=", "@", " ", "0", "1", "2", "-1", "1.5", "9" * 30, "é", "\n", "",
))  # fmt: skip


@QUICK
@given(st.lists(PIECES, max_size=7).map("".join))
def test_an_estimator_is_understood_or_refused_however_it_is_spelled(written: str) -> None:
    for read in (parse_estimator, parse_row):
        Call(read.__name__, read, lambda: {"written": "uoro"}).with_junk("written", written)
    for name in split_estimators([written]):
        Call("parse_estimator", parse_estimator, dict).with_junk("written", name)


class StartedError(Exception):
    """The command was about to compute."""


WORDS = st.sampled_from((
    "", " ", "-1", "0", "1", "2", "nan", "inf", "1e999", "1e-400", "0.5", "abc", "1,2", ",", ",,",
    "9" * 30, "1" * 5000, "é", "None", "\0", "a\nb", "uoro:", "uoro:rank=",
    "uoro:rank=" + "9" * 30, "tbptt:" + "9" * 30, "uoro@0", "@", "gru,gru", "a/b", "/proc/x", "..",
    "x" * 300, "-", "--", "'", "[red]x[/]", "quick", "float16", "jaxx", "cuda:99",
)) | st.text(max_size=4)  # fmt: skip

COMMANDS = [
    (["compare"], [""]),
    (["compare", "influence-balancing", "--backends", "autograd", "--steps", "9"], [
        "--backends", "--estimators", "--steps", "--eager-steps", "--seed", "--dtype", "--out",
        "--learning-rate", "--units", "--minus", "--file", "--encoding", "--malformed", "--model",
        "--layers", "--device",
    ]),
    (["compare", "anbn", "--backends", "autograd", "--steps", "99"], ["--units", "--model"]),
    (["compare", "text", "--file", str(BOOK), "--backends", "autograd"], [
        "--encoding", "--malformed", "--file",
    ]),
    (["reproduce"], [""]),
    (["reproduce", "fig2a"], ["--scale", "--seeds", "--backend", "--device", "--out", "--jobs"]),
    (["report"], ["", "--write"]),
    (["bench"], [
        "--backends", "--cells", "--units", "--rows", "--scale", "--repetitions", "--seconds",
        "--threads", "--alphabet", "--dtype", "--device", "--out",
    ]),
    (["check"], [""]),
    (["check", "no_such_module_anywhere:factory"], ["--steps", "--seed", "--dtype", "--report"]),
]  # fmt: skip


def typed(*arguments: str) -> tuple[Any, str]:
    """Give the exit status of a command, and what it wrote to stderr."""

    with (
        pytest.MonkeyPatch.context() as patch,
        redirect_stderr(StringIO()) as written,
        redirect_stdout(StringIO()),
    ):
        patch.setattr(sys, "argv", ["uoro", *arguments])
        for module, name in ((compare_command, "run_cells"), (reproduce_command, "execute"),
                             (bench_command, "execute")):  # fmt: skip
            patch.setattr(module, name, _start)
        try:
            run()
        except SystemExit as ended:
            return ended.code, written.getvalue()
        except StartedError:
            return "started", written.getvalue()
    return 0, written.getvalue()


def _start(*arguments: Any, **options: Any) -> None:
    raise StartedError


@pytest.mark.parametrize(
    ("command", "option"),
    [
        pytest.param(command, option, id=" ".join([*command[:2], option])[:60])
        for command, options in COMMANDS
        for option in options
    ],
)
@settings(QUICK, max_examples=10)
@given(value=WORDS)
def test_a_bad_word_on_the_command_line_is_one_line_and_exit_status_2(
    command: list[str], option: str, value: str
) -> None:
    status, written = typed(*command, *([option] if option else []), value)
    assert status in (0, 2, "started"), (command, option, value, written)
    if status == 2 and "Usage:" not in written:
        assert written.startswith("uoro: "), (command, option, value, written)
        assert written.count("\n") == 1, (command, option, value, written)
