"""What `Online` saves of itself, and loads."""

from __future__ import annotations

from copy import deepcopy
from typing import Any, NoReturn, Self

import optree

from uoro.arguments import require_count, require_seed
from uoro.errors import SettingError
from uoro_torch.guards import filled, require_saved


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

    def state_dict(self) -> dict[str, Any]:
        """Return all that the next step depends on, but for the model and its parameters.

        It consists of what `torch.save` takes; each of several processes returns its own.
        """
        return saved_of(self)

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Load what `state_dict` returned, for the same kind of model and estimator.

        What only an item can complete, such as the window of `RollingTruncated`, is compared at the
        next step.

        Args:
            saved: What `state_dict` returned. Before 0.2 its key ``"carry"`` was ``"memory"``.

        Raises:
            StructureError: If it is of another model or estimator; nothing is changed then.
        """
        load_into(self, saved)


def saved_of(online: Any) -> dict[str, Any]:
    """Return all that the next step depends on, in tensors, numbers and lists."""
    return {
        "steps": online.steps,
        "seed": online.seed,
        "state": optree.tree_leaves(online.state),
        "carry": online._waiting if online.carry is None else optree.tree_leaves(online.carry),
    }


def load_into(online: Any, saved: Any) -> None:
    """Load what `saved_of` returned.

    A carry whose shapes only an item of the stream tells waits for the next step.

    Args:
        online: `Online` of the same kind of model and estimator.
        saved: What was saved.

    Raises:
        StructureError: If the tensors are not those of this model and estimator, or it is nothing
            that `saved_of` returned; nothing is changed then.
    """
    call = "Online.load_state_dict(saved)"
    saved = require_saved(call, saved)
    seed = require_seed(call, saved["seed"])
    steps = require_count(call, "steps", saved["steps"], least=0)
    state, carry, waiting = filled(online.state, saved["state"], "state"), None, saved["carry"]
    if waiting is not None:
        try:
            made = online.estimator.init(
                online.dynamics, online.params, state, inputs=online._example
            )
            carry, waiting = filled(made, waiting, "carry"), None
        except SettingError:  # The estimator needs an item.
            if online._example is not None:
                raise
    online.seed, online.steps, online.state = seed, steps, state
    online.carry, online._waiting = carry, waiting


def first_carry(online: Any, dynamics: Any, item: Any) -> Any:
    """Return the carry of the next step: that which was loaded, or a new one.

    Args:
        online: The `Online`.
        dynamics: Dynamics of the step, with a loss or without.
        item: Item of the step.

    Raises:
        StructureError: If what was loaded is of another model or estimator.
    """
    carry = online.estimator.init(dynamics, online.params, online.state, inputs=item)
    if online._waiting is None:
        return carry
    return filled(carry, online._waiting, "carry")


def require_none_waiting(online: Any) -> None:
    """Check that no loaded carry waits for an item.

    Raises:
        SettingError: If one does.
    """
    if online._waiting is not None:
        raise SettingError(
            "Online.reset(mask): expected a step after load_state_dict(...), got none yet, and the "
            f"carry of {online.estimator!r} is complete only at an item. Take a step first."
        )
