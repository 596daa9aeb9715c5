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


def saved_of(online: Any) -> dict[str, Any]:
    """Return all that the next step depends on, in tensors, numbers and lists."""
    return {
        "steps": online.steps,
        "seed": online.seed,
        "state": optree.tree_leaves(online.state),
        "carry": None if online.carry is None else optree.tree_leaves(online.carry),
    }


def load_into(online: Any, saved: Any, example: Any) -> None:
    """Load what `saved_of` returned.

    Args:
        online: `Online` of the same kind of model and estimator.
        saved: What was saved.
        example: Item of a step, for estimators that carry items; ``None`` if there is none.

    Raises:
        StructureError: If the tensors are not those of this model and estimator, or it is nothing
            that `saved_of` returned; nothing is changed then.
    """
    call = "Online.load_state_dict(saved)"
    saved = require_saved(call, saved)
    seed = require_seed(call, saved["seed"])
    steps = require_count(call, "steps", saved["steps"], least=0)
    state, carry = filled(online.state, saved["state"], "state"), None
    if saved["carry"] is not None:
        empty = online.estimator.init(online.dynamics, online.params, state, inputs=example)
        carry = filled(empty, saved["carry"], "carry")
    online.seed, online.steps, online.state, online.carry = seed, steps, state, carry
