"""The estimator that fits a task, in the place of ``auto``."""

from __future__ import annotations

import numpy as np

from uoro.backend import Backend
from uoro.estimators.chosen import Chosen, choose, is_auto
from uoro.estimators.spelling import Choice, parse_estimator
from uoro.tasks import Task


def resolve(
    task: Task, backend: Backend, choices: list[Choice], seed: int, dtype: str
) -> tuple[list[Choice], Chosen | None]:
    """Return the estimators, with the one that fits the model in the place of ``auto``.

    Args:
        task: Task.
        backend: Backend of the probes.
        choices: Estimators.
        seed: Seed of the initial numbers.
        dtype: ``"float32"`` or ``"float64"``.

    Returns:
        The estimators, each once; and what was chosen, if anything was.
    """
    if not any(is_auto(choice.estimator) for choice in choices):
        return choices, None
    params, state = task.model.init(np.random.default_rng(seed))
    with backend.precision(dtype):
        params, state = (backend.from_host(tree, dtype=dtype) for tree in (params, state))
        dynamics = task.dynamics(backend)
        chosen = choose(dynamics, params, state, backend.from_host(task.example(), dtype=dtype))
    named = {
        choice.name: choice
        for choice in (
            parse_estimator(chosen.spelling) if is_auto(given.estimator) else given
            for given in choices
        )
    }
    return list(named.values()), chosen
