"""One step of an `Online`: prepared, taken, looked at, and kept or not."""

from __future__ import annotations

from typing import Any

import optree
from torch import Tensor

from uoro.errors import SettingError, UOROError
from uoro_torch.prepared import Prepared
from uoro_torch.saving import first_carry
from uoro_torch.threads import Threads, widen


def take(
    online: Any, call: str, model: Prepared, params: Any, item: Any, *, with_loss: bool = False
) -> tuple[Any, bool]:
    """Take a step, and keep it if it is finite.

    Args:
        online: The `Online`.
        call: The call that an error names.
        model: Model and estimator.
        params: Parameters to step with.
        item: Item of the stream.
        with_loss: Whether the output is the loss, whose gradient is taken at once.

    Returns:
        Estimate or prediction of the step, and whether the step was kept.

    Raises:
        NonFiniteError: If the step is not finite, and ``on_nonfinite`` does not allow for it.
        SettingError: If another step of it is at work, as in another thread.
    """
    if online._busy:
        raise SettingError(
            f"{call}: expected one step at a time, got a second one while the first runs. Give "
            "each thread an Online of its own, and call none within a transition."
        )
    online._busy = True
    watch, threads = online._watch, online._threads.narrow()
    try:
        watch.before(online)
        model.prepare(online.params, online.state, item, online.carry)
        if online.estimator is not model.estimator:  # It is chosen by the first item.
            online.estimator = model.estimator
            online._threads = Threads(online.params, online.state, online.estimator)
        online._chosen = model.chosen or online._chosen
        if online.carry is None:
            online.carry, online._waiting = first_carry(online, model.dynamics, item), None
        signs = model.draw(online.seed, online.steps, online.state)
        step = model.step if with_loss else model.advance
        carry, state, made = step(params, online.carry, online.state, item, signs)
        fault = watch.fault(made, online.state, state)
        if fault is not None and watch.policy.choice == "reset":
            watch.reset(online, model.dynamics, call, fault, item)
            carry, state, made = step(params, online.carry, online.state, item, signs)
            fault = watch.fault(made, online.state, state)
        if fault is not None:
            watch.refuse(online, call, fault, item)
            online.steps += 1
            return made, False
        online.carry, online.state = carry, state
        online.steps, online._example = online.steps + 1, item
        model.trained.keep(made.aux, online.steps)
        watch.taken(online, made)
        return made, True
    except Exception as error:
        if not isinstance(error, UOROError):
            _note_window(error, online.state, item)
        raise
    finally:
        online._busy = False
        widen(threads)


def _note_window(error: Exception, state: Any, item: Any) -> None:
    """Add to an error of the model that the item may be a window of several."""
    tensors = [leaf for leaf in optree.tree_leaves(item) if isinstance(leaf, Tensor)]
    axes = max((leaf.dim() for leaf in optree.tree_leaves(state)), default=0)
    if tensors and tensors[0].dim() > axes > 0:
        error.add_note(
            f"Online.step(...): the input has shape {tuple(tensors[0].shape)}, and the state "
            f"{axes} {'axis' if axes == 1 else 'axes'}. An item is one step: go through a window "
            "of several one by one, or use streams= for several sequences at once."
        )
