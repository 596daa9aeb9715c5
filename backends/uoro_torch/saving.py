"""What `Online` saves of itself, and loads."""

from __future__ import annotations

from typing import Any

import optree

from uoro.arguments import require_count, require_seed
from uoro_torch.guards import filled, require_saved


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
