"""Learners saved by version 0.1, under the names of then, continue as they would have there.

The files in ``data/saved_by_0.1`` were written by that version: learners after six items, each with
the losses and the parameters that the next four items gave there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from uoro import (
    RTRL,
    SGD,
    UORO,
    Adam,
    Backend,
    Estimator,
    JointUORO,
    Learner,
    Optimizer,
    load_backend,
)
from uoro.checkpoint import load_learner, read_checkpoint
from uoro.learning.saved import Saved

SAVED = Path(__file__).parent / "data" / "saved_by_0.1"
ITEMS = [0.1 * (-1) ** i * (1 + i) for i in range(10)]
CASES: dict[str, tuple[Estimator, Optimizer]] = {
    "uoro": (UORO(), Adam(0.01)),
    "joint": (JointUORO(2), Adam(0.01)),
    "rtrl": (RTRL(), SGD(0.01)),
}


def _learner(backend: Backend, case: str) -> Learner:
    def transition(params: Any, state: Any, x: Any) -> Any:
        after = backend.xp.tanh(params["w"] @ state + params["u"] * x)
        return after, (after[0] - 0.5) ** 2

    params = {"u": np.zeros(2), "w": np.zeros((2, 2))}
    return Learner(backend.dynamics(transition), *CASES[case], params, np.zeros(2))


@pytest.mark.parametrize("case", CASES)
def test_what_was_saved_before_is_loaded_bit_for_bit(backend: Backend, case: str) -> None:
    learner = _learner(backend, case)
    path = SAVED / f"{case}.safetensors"
    load_learner(path, learner)
    before, now = read_checkpoint(path).arrays, learner.export().arrays
    carried = {name for name in before if name.partition("/")[0] == "memory"}
    assert carried, "the arrays have the names of then"
    assert set(now) == {name.replace("memory", "carry", 1) for name in before}
    for name, array in before.items():
        np.testing.assert_array_equal(now[name.replace("memory", "carry", 1)], array)
    assert (learner.steps, learner.export().counts["seed"]) == (6, 11)


@pytest.mark.parametrize("case", CASES)
def test_what_was_saved_before_continues_as_it_would_have(case: str) -> None:
    learner = _learner(load_backend("autograd"), case)
    note = load_learner(SAVED / f"{case}.safetensors", learner)
    losses: list[float] = []
    learner.run(ITEMS[6:], report=lambda metrics: losses.extend(metrics.losses))
    np.testing.assert_allclose(losses, note["losses"], rtol=1e-12)
    for name, values in note["params"].items():
        np.testing.assert_allclose(learner.params[name], values, rtol=1e-12)


def test_old_and_new_names_do_not_mix(backend: Backend) -> None:
    learner = _learner(backend, "uoro")
    before = read_checkpoint(SAVED / "uoro.safetensors")
    arrays = {name.replace("memory", "elsewhere", 1): a for name, a in before.arrays.items()}
    with pytest.raises(ValueError, match=r"only in the learner: .'carry/cotangent/u'"):
        learner.restore(Saved(arrays, before.document["learner"]))
    assert learner.steps == 0
