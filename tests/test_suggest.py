"""Suggesting an estimator: bias and noise as they are, and one rule."""

from __future__ import annotations

import itertools
import json
import math
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from systems import entries, make_items
from torch import nn
from uoro_torch import Online, module_transition

from uoro import RTRL, SGD, UORO, Backend, SnAp, Streams, load_backend, suggest, suggest_rank
from uoro.errors import SettingError, StreamError, UOROError
from uoro.estimators import Truncated, TruncatedBPTT
from uoro.estimators.spelling import Choice
from uoro.lab.reproduce.measured_model import MeasuredModel
from uoro.lab.reproduce.noise import noise_by_estimator
from uoro.lab.reproduce.paper_tasks import ANBN, network
from uoro.lab.reproduce.plan import ReproductionPlan
from uoro.models import GRU, LRU, SymbolModel, Tanh
from uoro.suggesting import Facts, Recommendation, Row, Suggestion, facts_of, recommended
from uoro.suggesting.moments import moments_of

STEPS = 48
SKIP = 16
"""Of 48 items a suggestion leaves the first 16 out."""


def _system(backend: Backend, cell: Any, steps: int = STEPS) -> tuple[Any, Any, Any, list[Any]]:
    model = SymbolModel((cell,), 3)
    params, state = model.init(np.random.default_rng(0))
    dynamics = backend.dynamics(partial(model.transition, backend.xp))
    items = entries(backend, make_items(steps), steps)
    return dynamics, backend.from_host(params), backend.from_host(state), items


def _rows(found: Suggestion) -> dict[str, Row]:
    return {row.spelling: row for row in found.rows}


def _gradients(system: Any, estimator: Any, signs: Any = None) -> list[Any]:
    """Return the gradients of all items, one by one, as flat vectors."""
    dynamics, params, state, items = system
    carry = estimator.init(dynamics, params, state, inputs=items[0])
    found = []
    for number, item in enumerate(items):
        drawn = None if signs is None else signs[number]
        carry, state, made = estimator.step(dynamics, params, carry, state, item, drawn)
        leaves = dynamics.backend.named_leaves(dynamics.backend.to_host(made.gradient))
        found.append(np.concatenate([np.ravel(leaf) for _, leaf in leaves]))
    return found


@pytest.mark.parametrize(
    "name", ["autograd", "torch", pytest.param("jax", marks=pytest.mark.thorough)]
)
def test_the_bias_of_a_quiet_gradient_is_its_distance_from_the_exact_one(name: str) -> None:
    system = _system(load_backend(name), GRU(3))
    found = suggest(*system, estimators=["tbptt:1", "snap", "rtrl", "tbptt:16"])
    rows, truth = _rows(found), np.array(_gradients(system, RTRL()))
    for spelling, estimator in (("tbptt:1", Truncated()), ("snap", SnAp())):
        apart = (np.array(_gradients(system, estimator)) - truth)[SKIP:]
        wanted = (apart**2).sum() / (truth[SKIP:] ** 2).sum()
        assert wanted > 1e-4
        assert rows[spelling].bias == pytest.approx(wanted, rel=1e-5)
        assert rows[spelling].noise == rows[spelling].noise_error == 0.0
    dynamics, params, state, items = system
    chunk, apart_of_chunks, size = TruncatedBPTT(16), 0.0, 0.0
    for number in range(STEPS // 16):
        part = dynamics.backend.collect(items[16 * number : 16 * number + 16])
        _, state, made = chunk.step(dynamics, params, (), state, part, None)
        leaves = dynamics.backend.named_leaves(dynamics.backend.to_host(made.gradient))
        got = np.concatenate([np.ravel(leaf) for _, leaf in leaves])
        exact = truth[16 * number : 16 * number + 16].sum(0)
        if number:
            apart_of_chunks += ((got - exact) ** 2).sum()
            size += (exact**2).sum()
    assert rows["tbptt:16"].bias == pytest.approx(apart_of_chunks / size, rel=1e-5)
    assert rows["rtrl"].bias < 1e-10 > rows["rtrl"].noise
    assert all(row.seconds > 0 for row in rows.values())
    assert rows["rtrl"].memory == pytest.approx(3.0)
    assert "against the exact ones of rtrl" in str(found)


@pytest.mark.parametrize("name", ["autograd", "jax"])
def test_bias_and_noise_are_those_of_all_sequences_of_signs(name: str) -> None:
    steps, n = 4, 2
    system = _system(load_backend(name), Tanh(n), steps)
    truth = np.array(_gradients(system, RTRL()))
    every = []
    for flat in itertools.product([-1.0, 1.0], repeat=steps * n):
        rows = np.array(flat).reshape((steps, n))
        signs = [system[0].backend.from_host({"0": {"h": row}}) for row in rows]
        if name == "autograd":
            every.append(_gradients(system, UORO(), signs))
    if name != "autograd":  # The numbers are those of every backend.
        reference = _system(load_backend("autograd"), Tanh(n), steps)
        every = [
            _gradients(reference, UORO(), [{"0": {"h": row}} for row in np.reshape(flat, (4, 2))])
            for flat in itertools.product([-1.0, 1.0], repeat=steps * n)
        ]
    wanted = (np.var(every, axis=0)).sum() / (truth**2).sum()
    row = _rows(suggest(*system, estimators=["uoro"], replicas=150, budget=300.0))["uoro"]
    assert row.replicas == 150
    assert row.noise_error < 0.3 * row.noise
    assert row.noise == pytest.approx(wanted, abs=4 * row.noise_error)
    assert abs(row.bias) < 4 * row.bias_error < 0.2


def test_an_lru_is_recommended_block_rtrl_without_bias_or_noise() -> None:
    system = _system(load_backend("jax"), LRU(3))
    found = suggest(*system, estimators=["block", "tbptt:1", "uoro", "kron:1"])
    row = _rows(found)["block"]
    assert max(abs(row.bias), abs(row.noise)) < 1e-12
    assert found.recommended is not None
    assert found.recommended.name == "block"
    assert found.facts.local
    assert _rows(found)["tbptt:1"].bias > 0.01


def test_a_wrong_gradient_would_be_seen() -> None:
    """A gradient with a known bias and a known noise has what it has."""
    generator, truth = np.random.default_rng(0), np.array([3.0, 0.0, 4.0])
    biases, noises = [], []
    for _ in range(200):
        gradients = truth + np.array([0.0, 1.0, 0.0]) + 0.5 * generator.normal(size=(6, 3))
        halves = truth + 0.3 * generator.normal(size=(2, 3))
        rows = [*(gradients - halves[0]), halves[1] - halves[0], halves[0]]
        found = moments_of((np.array(rows) @ np.array(rows).T).tolist())
        biases.append(found.bias.value)
        noises.append(found.noise)
    assert np.mean(biases) == pytest.approx(1 / 25, rel=0.1)
    assert np.mean([noise.value for noise in noises]) == pytest.approx(0.75 / 25, rel=0.1)
    spread = np.std([noise.value for noise in noises])
    assert np.mean([noise.error for noise in noises]) == pytest.approx(spread, rel=0.35)


@pytest.mark.parametrize("made", ["module", "online"])
def test_a_module_of_pytorch_is_measured(made: str) -> None:
    torch.manual_seed(0)
    module = nn.GRU(2, 4).double()
    read = nn.Linear(4, 1).double().requires_grad_(requires_grad=False)

    def loss(output: Any, target: Any) -> Any:
        return (read(output) - target).square().mean()

    items = [(torch.randn(2).double(), torch.randn(1).double()) for _ in range(STEPS)]
    if made == "module":
        transition: Any = module_transition(module, loss)
        dynamics = load_backend("torch").dynamics(transition, has_aux=True)
        params = dict(transition.module.named_parameters())
    else:
        online = Online.for_module(module, loss, estimator=UORO())
        dynamics, params = online.dynamics, online.params
    state, names = torch.zeros(1, 4).double(), ["tbptt:1", "kron:2", "uoro"]
    found = suggest(dynamics, params, state, items, estimators=names)
    rows = _rows(found)
    assert rows["tbptt:1"].bias > 1e-3
    assert abs(rows["uoro"].bias) < 4 * rows["uoro"].bias_error
    assert rows["kron:2"].noise < 0.1 * rows["uoro"].noise
    assert found.backend == "torch on cpu"


@pytest.mark.thorough
def test_a_network_may_learn_first_and_everything_that_fits_is_measured() -> None:
    doing: list[str] = []
    items = make_items(200)
    backend = load_backend("autograd")
    dynamics, params, state, _ = _system(backend, GRU(4))
    found = suggest(
        dynamics, params, state, entries(backend, items, 200), learn=60, optimizer=SGD(0.1),
        steps=STEPS, replicas=3, budget=200.0, report=doing.append,
    )  # fmt: skip
    assert {"rtrl", "tbptt:1", "tbptt:16", "uoro", "kron:2", "joint:4", "snap"} <= set(_rows(found))
    assert found.left_out["joint:16"] == "rank 4 is exact"
    assert "learning from 60 items" in found.state
    assert found.steps == STEPS - SKIP
    assert any("learning" in said for said in doing)
    assert any("kron:2" in said for said in doing)
    assert abs(_rows(found)["joint:4"].noise) < 1e-12
    assert [row.seconds for row in found.rows] == sorted(row.seconds for row in found.rows)
    document = json.loads(json.dumps(found.document(), allow_nan=False))
    assert len(document["rows"]) == len(found.rows)
    assert found.recommended is not None
    assert document["recommended"] == found.recommended.name
    table = str(found).splitlines()
    headings = "estimator guarantee bias noise µs a step quartiles memory"
    assert " ".join(table[0].split()) == headings
    assert f"Recommended: {found.recommended.name}. {found.reason}" in table


def test_what_there_is_no_time_for_is_named() -> None:
    system = _system(load_backend("autograd"), Tanh(3))
    names = ["tbptt:1", "snap", "tbptt:16", "rtrl", "kron:1", "uoro"]
    found = suggest(*system, estimators=names, budget=1e-6)
    assert found.left_out == {"kron:1": "no time left", "uoro": "no time left"}
    assert set(_rows(found)) == set(names[:4])
    assert found.recommended is not None
    assert found.recommended.name == "rtrl"


def test_an_estimator_that_does_not_fit_is_named_with_the_reason() -> None:
    found = suggest(*_system(load_backend("autograd"), Tanh(3)), estimators=["tbptt:1", "block"])
    assert "expected a model whose units do not move each other" in found.left_out["block"]


def test_without_an_exact_gradient_means_of_replicas_stand_in(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    system = _system(load_backend("jax"), GRU(4))
    exact = _rows(suggest(*system, estimators=["snap", "uoro"]))
    monkeypatch.setattr("uoro.suggesting.candidates.MOST_WORK", 0)
    found = suggest(*system, estimators=["snap", "uoro"])
    assert "means of 8 replicas of kron:4" in str(found)
    rows = _rows(found)
    assert rows["snap"].bias == pytest.approx(
        exact["snap"].bias, abs=1e-6 + 4 * rows["snap"].bias_error
    )
    assert rows["uoro"].noise == pytest.approx(exact["uoro"].noise, rel=1e-4)
    assert "multiply-adds" in suggest(*system, budget=1e-6).left_out["rtrl"]


LARGE = Facts(coordinates=64, params=13_000, local=False, rows=192, columns=192)


def _row(spelling: str, guarantee: Any, bias: float, noise: float, micros: float) -> Row:
    seconds = 1e-6 * micros
    return Row(spelling, guarantee, bias, 0.0, noise, 0.0, seconds, seconds, seconds, 1, 1.0, 8)


ROWS = (
    _row("tbptt:16", "biased", 0.3, 0.0, 10.0),
    _row("uoro", "unbiased", 0.2, 2000.0, 30.0),
    _row("kron:2", "unbiased", 0.0, 1.0, 280.0),
    _row("kron:3", "unbiased", 0.0, 0.2, 480.0),
    _row("rtrl", "exact", 0.0, 0.0, 1950.0),
)


def _with(*rows: Row) -> tuple[Row, ...]:
    named = {row.spelling: row for row in (*ROWS, *rows)}
    return tuple(named.values())


FORGETFUL = _with(_row("tbptt:16", "biased", 0.005, 0.0, 10.0))
HARDLY = _with(_row("tbptt:16", "biased", 0.005, 0.0, 320.0))
SLOW = _with(_row("tbptt:16", "biased", 0.005, 0.0, 400.0))


@pytest.mark.parametrize(
    ("rows", "limits", "spelling", "words"),
    [
        (ROWS, {}, "kron:2", "noise of 1, and of the unbiased estimators the one of least"),
        (ROWS, {}, "kron:2", "tbptt:16 has the least bias, 0.3 of the squared gradient"),
        (ROWS, {"noise": 0.5}, "kron:3", "noise of 0.2"),
        (ROWS, {"seconds": 1e-4}, "uoro", "noise of 2e+03"),
        (ROWS, {"seconds": 1e-6}, None, "tbptt:16 takes 1e-05"),
        (ROWS, {"noise": 1e-9, "seconds": 1e-3}, None, "No estimator has a squared error"),
        (_with(_row("rtrl", "exact", 0.0, 0.0, 500.0)), {}, "rtrl", "Exact, at 17 times"),
        (FORGETFUL, {"trained": True}, "tbptt:16", "Biased, by 0.005"),
        (FORGETFUL, {}, "kron:2", "biased by only 0.005 of the squared gradient here"),
        (FORGETFUL[:1], {}, None, "is seen on a trained network"),
        (FORGETFUL[:1], {"trained": True}, "tbptt:16", "Biased, by 0.005"),
        (SLOW, {"trained": True}, "kron:2", "Unbiased"),
        (HARDLY, {"trained": True}, "kron:2", "by only 0.005 of the squared gradient here, at 0.8"),
        (_with(_row("kron:2", "unbiased", 0.0, math.nan, 1.0)), {}, "kron:3", "Unbiased"),
        (ROWS[:1], {}, None, "the bias of the others matters"),
        ((_row("uoro", "unbiased", math.nan, math.nan, 1.0),), {}, None, "Nothing could be"),
    ],
)
def test_the_rule_is_what_it_says(
    rows: tuple[Row, ...], limits: dict[str, Any], spelling: str | None, words: str
) -> None:
    found = recommended(LARGE, rows, **limits)
    assert found.spelling == spelling
    assert words in found.reason


@pytest.mark.parametrize(
    ("facts", "spelling"),
    [
        (Facts(128, 13_000, True, 128, 192), "block"),
        (Facts(16, 1_200, False, 48, 48), "rtrl"),
        (LARGE, "kron:2"),
        (Facts(64, 13_000, False, 0, 13_000), "joint:4"),
        (Facts(1024, 3_200_000, False, 3072, 3072), "joint:4"),
    ],
)
def test_sizes_alone_recommend_something_unbiased(facts: Facts, spelling: str) -> None:
    found = recommended(facts)
    assert isinstance(found, Recommendation)
    assert found.spelling == spelling


def test_a_local_model_is_recommended_block_whatever_else_is_fast() -> None:
    local = Facts(128, 13_000, True, 128, 192)
    rows = _with(_row("block", "exact", 0.0, 0.0, 40.0), _row("tbptt:1", "biased", 0.0, 0.0, 1.0))
    assert recommended(local, rows).spelling == "block"
    assert recommended(LARGE, rows).spelling == "block"
    assert recommended(LARGE, rows, trained=True).spelling == "tbptt:1"


def test_facts_are_those_of_the_model(backend: Backend) -> None:
    dynamics, params, state, items = _system(backend, GRU(3))
    facts = facts_of(dynamics, params, state, items[0])
    # Matrices of 9, 6 and 3 rows, from the inputs, to the gates and to the candidate; a bias of 9.
    assert (facts.coordinates, facts.rows, facts.columns, facts.local) == (3, 18, 9, False)
    dynamics, params, state, items = _system(backend, LRU(3))
    assert facts_of(dynamics, params, state, items[0]).local


def test_an_estimator_of_chunks_is_one_that_a_learner_takes() -> None:
    system = _system(load_backend("autograd"), Tanh(3))
    found = suggest(*system, estimators=["tbptt:16"], noise=1e9)
    if found.recommended is not None:
        assert found.recommended == Choice("tbptt:16", TruncatedBPTT(16), 1)
    assert _rows(found)["tbptt:16"].guarantee == "biased"


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"noise": 0.0}, SettingError, "noise=0.0"),
        ({"seconds": math.inf}, SettingError, "seconds=inf"),
        ({"budget": -1.0}, SettingError, "budget=-1.0"),
        ({"replicas": 2}, SettingError, "replicas=2"),
        ({"steps": 1}, SettingError, "steps=1"),
        ({"trained": 1}, SettingError, "trained=1"),
        ({"learn": -1}, SettingError, "learn=-1"),
        ({"seed": -1}, SettingError, "seed"),
        ({"optimizer": 3}, SettingError, "optimizer"),
        ({"report": 3}, SettingError, "report"),
        ({"estimators": []}, SettingError, "at least one"),
        ({"estimators": "uoro"}, SettingError, "list"),
        ({"estimators": ["urro"]}, UOROError, "Did you mean 'uoro'"),
        ({"estimators": ["bptt"]}, SettingError, "of one stream"),
        ({"estimators": [Streams(UORO(), 2)]}, SettingError, "of one stream"),
        ({"estimators": [3]}, SettingError, "estimator"),
        ({"items": []}, StreamError, "at least 2, got 0"),
        ({"items": 3}, StreamError, "stream"),
        ({"dynamics": None}, SettingError, "suggest"),
        ({"params": 0.5}, UOROError, "suggest"),
    ],
)
def test_what_cannot_be_measured_is_refused(
    changes: dict[str, Any], error: type[UOROError], words: str
) -> None:
    names = "dynamics", "params", "state", "items"
    given: dict[str, Any] = {"estimators": ["tbptt:1"]}
    given |= dict(zip(names, _system(load_backend("autograd"), Tanh(3)), strict=True))
    with pytest.raises(error, match=words):
        suggest(**(given | changes))


def test_estimators_are_taken_as_they_are() -> None:
    found = suggest(*_system(load_backend("autograd"), Tanh(3)), estimators=[UORO(rank=2)])
    assert found.rows[0].spelling == "UORO(rank=2)"
    assert found.recommended is not None
    assert found.recommended.estimator == UORO(rank=2)


def test_suggest_rank_names_what_replaces_it() -> None:
    with pytest.warns(DeprecationWarning, match=r"Write suggest\(\.\.\., estimators="):
        suggest_rank(*_system(load_backend("autograd"), Tanh(2), 6), ranks=(2,))


@pytest.mark.thorough
def test_noise_is_what_uoro_reproduce_measures() -> None:
    settings = ReproductionPlan().common("float64") | {
        **ANBN,
        "network": network("gru", 6),
        "estimators": ["uoro", "joint:2", "snap"],
        "window": 1,
        "windows": STEPS,
        "skipped_windows": SKIP,
        "reruns": 100,
        "stages": [0],
        "seed": 3,
    }
    wanted = noise_by_estimator(settings, lambda done: None)
    backend = load_backend("jax")
    with backend.precision("float64"):
        model = MeasuredModel(settings)
        found = suggest(
            model.dynamics, model.params, model.state, model.task.stream(3),
            estimators=["uoro", "joint:2", "snap"], steps=STEPS, replicas=100, budget=300.0,
        )  # fmt: skip
    rows = _rows(found)
    assert rows["snap"].bias == pytest.approx(wanted["relative_variance"]["snap"][0], rel=1e-6)
    for name in ("uoro", "joint:2"):
        row, value = rows[name], wanted["relative_variance"][name][0]
        error = math.hypot(row.noise_error, wanted["standard_error"][name][0])
        assert error < 0.35 * value
        assert row.noise == pytest.approx(value, abs=4 * error)
