"""What `Online` saves of itself, and loads."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from typing import Any, NoReturn, Self

import optree

from uoro.arguments import require_count, require_seed
from uoro.errors import SettingError
from uoro.estimator import Estimator, needs_item
from uoro.estimators.chosen import Selection
from uoro_torch.guards import filled, require_saved
from uoro_torch.running import Running


class NotPickled:
    """Base of what can be copied, but not pickled."""

    def __copy__(self) -> Self:
        """Return a copy that shares everything."""
        made = type(self).__new__(type(self))
        vars(made).update(vars(self))
        return made

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Return a copy that shares nothing."""
        made = type(self).__new__(type(self))
        memo[id(self)] = made
        vars(made).update(deepcopy(vars(self), memo))
        return made

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        """Raise: functions of the user's own cannot be pickled."""
        name = type(self).__name__
        raise SettingError(
            f"pickle.dumps({name.lower()}): expected what can be pickled, got an {name}. Save "
            "online.state_dict() and module.state_dict(), and load them into new ones."
        )


class SavedAsDict(NotPickled):
    """Base of what is saved, and loaded, as a dict of tensors, numbers and lists."""

    dynamics: Any
    _running: Running
    _selection: Selection

    def state_dict(self) -> dict[str, Any]:
        """Return all that the next step depends on, but for the model and its parameters.

        It consists of what `torch.save` takes; each of several processes returns its own.
        """
        now = self._running
        return {
            "steps": now.steps,
            "seed": now.seed,
            "state": optree.tree_leaves(now.state),
            "carry": now.waiting if now.carry is None else optree.tree_leaves(now.carry),
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Load what `state_dict` returned, for the same kind of model and estimator.

        What only an item can complete, such as the window of `RollingTruncated`, is compared at the
        next step.

        Args:
            saved: What `state_dict` returned. Before 0.2 its key ``"carry"`` was ``"memory"``.

        Raises:
            StructureError: If it is of another model or estimator; nothing is changed then.
        """
        call, now, estimator = "Online.load_state_dict(saved)", self._running, self._selection
        saved = require_saved(call, saved)
        seed = require_seed(call, saved["seed"])
        steps = require_count(call, "steps", saved["steps"], least=0)
        fresh = replace(now, state=filled(now.state, saved["state"], "state"), carry=None)
        fresh.waiting = saved["carry"]
        known = now.example is not None or not needs_item(estimator.estimator)
        if fresh.waiting is not None and known:
            fresh.carry = first_carry(fresh, estimator.estimator, self.dynamics, now.example)
            fresh.waiting = None
        now.seed, now.steps, now.state = seed, steps, fresh.state
        now.carry, now.waiting = fresh.carry, fresh.waiting


def first_carry(now: Running, estimator: Estimator, dynamics: Any, item: Any) -> Any:
    """Return the carry of the next step: that which was loaded, or a new one.

    Args:
        now: Where the `Online` stands.
        estimator: Its estimator.
        dynamics: Dynamics of the step, with a loss or without.
        item: Item of the step.

    Raises:
        StructureError: If what was loaded is of another model or estimator.
    """
    carry = estimator.init(dynamics, now.params, now.state, inputs=item)
    return carry if now.waiting is None else filled(carry, now.waiting, "carry")


def require_none_waiting(now: Running, estimator: Any) -> None:
    """Check that no loaded carry waits for an item.

    Raises:
        SettingError: If one does.
    """
    if now.waiting is not None:
        raise SettingError(
            "Online.reset(mask): expected a step after load_state_dict(...), got none yet, and the "
            f"carry of {estimator!r} is complete only at an item. Take a step first."
        )
