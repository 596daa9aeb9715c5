"""The laws of optimizers, learners and checkpoints: they hold here, and refuse what breaks them."""

from __future__ import annotations

from typing import Any

import pytest
from uoro_conformance import GALLERY
from uoro_conformance.learning import check_learner, check_optimizers
from uoro_conformance.mutants.wrong_learning import WRONG_LEARNERS, WRONG_OPTIMIZERS

from uoro import Backend, JointUORO, load_backend


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_the_laws_of_learning_hold(backend: Backend, dtype: Any) -> None:
    with backend.precision(dtype):
        check_optimizers(backend, dtype).require()
        check_learner(GALLERY[0].build(backend, dtype)).require()


def test_they_hold_of_joint_pairs() -> None:
    check_learner(GALLERY[0].build(load_backend("torch")), JointUORO(2)).require()


@pytest.mark.parametrize("name", WRONG_OPTIMIZERS)
def test_a_wrong_optimizer_is_refused(backend: Backend, name: str) -> None:
    finding = check_optimizers(backend, "float64", {name: WRONG_OPTIMIZERS[name]})
    assert finding.verdict == "broken"
    assert finding.gap > 1e3 * finding.allowed


@pytest.mark.parametrize("name", WRONG_LEARNERS)
def test_a_wrong_learner_is_refused(backend: Backend, name: str) -> None:
    finding = check_learner(GALLERY[0].build(backend), make=WRONG_LEARNERS[name])
    assert finding.verdict == "broken", finding
