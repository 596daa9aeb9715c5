"""A restart of some of several streams."""

from __future__ import annotations

from typing import Any

from uoro.algebra import select
from uoro.arguments import require_length, require_like
from uoro.errors import SettingError
from uoro.estimator import ParallelEstimator
from uoro.learning.stepper import Stepper


def restart_streams(stepper: Stepper, mask: Any, fresh: Any) -> None:
    """Restart the streams of a mask; `uoro.Learner.reset` documents it."""
    update, backend = stepper.update, stepper.backend
    estimator = update.estimator
    if not isinstance(estimator, ParallelEstimator):
        raise SettingError(
            "Learner.reset(mask, fresh): expected an estimator of several streams, got one "
            "of a single stream. Wrap it: Streams(estimator, count)."
        )
    now = stepper.progress
    mask, fresh = backend.from_host(mask), backend.from_host(fresh)
    call, hint = "Learner.reset(mask=...)", "Give an array of booleans, one per stream."
    require_length(mask, len(estimator.rows), call, "the array", hint)
    call, hint = "Learner.reset(fresh=...)", "Stack one hidden state per stream."
    require_like(backend, fresh, now.state, call=call, hint=hint)
    if now.carry is None:
        after = now._replace(state=select(backend, mask, fresh, now.state))
    else:
        model = update.dynamics, now.params, now.carry, now.state
        carry, state = estimator.reset(*model, mask, fresh, inputs=stepper.example)
        after = now._replace(carry=carry, state=state)
    stepper.progress = after
