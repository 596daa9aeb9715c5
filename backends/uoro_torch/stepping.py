"""One step of an `Online`: prepared, taken, looked at, and kept or not."""

from __future__ import annotations

from typing import Any, cast

import optree
from torch import Tensor

from uoro.errors import SettingError, UOROError
from uoro.estimators.chosen import Selection
from uoro.learning.update import Update
from uoro_torch.prepared import Prepared
from uoro_torch.running import Running
from uoro_torch.saving import first_carry
from uoro_torch.threads import Threads, widen
from uoro_torch.watching import Watch


class Stepper:
    """Take the steps of an `Online`: each is prepared, looked at, and kept or not.

    Args:
        running: Where the `Online` stands.
        selection: Its estimator.
        watch: Looks at every step.

    Attributes:
        threads: Sets the number of threads of a step.
    """

    def __init__(self, running: Running, selection: Selection, watch: Watch) -> None:
        self._running, self._selection, self._watch = running, selection, watch
        self._busy = False
        self.threads = Threads(running.params, running.state, selection.estimator)

    def take(
        self, call: str, model: Prepared, params: Any, item: Any, *, with_loss: bool = False
    ) -> tuple[Any, bool]:
        """Take a step, and keep it if it is finite.

        Args:
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
        if self._busy:
            raise SettingError(
                f"{call}: expected one step at a time, got a second one while the first runs. Give "
                "each thread an Online of its own, and call none within a transition."
            )
        self._busy = True
        threads, now, watch = self.threads.narrow(), self._running, self._watch
        given, backend = self._selection.estimator, model.dynamics.backend
        try:
            watch.before(now, backend)
            model.prepare(now.params, now.state, item, now.carry)
            estimator = self._selection.estimator
            if estimator is not given:  # It was chosen by this item.
                self.threads = Threads(now.params, now.state, estimator)
            if now.carry is None:
                now.carry, now.waiting = first_carry(now, estimator, model.dynamics, item), None
            signs = model.draw(now.seed, now.steps, now.state)
            step = model.step if with_loss else model.advance
            carry, state, made = step(params, now.carry, now.state, item, signs)
            loss, fault = watch.look(made, now.state, state)
            if fault is not None and watch.policy.choice == "reset":
                update = Update(model.dynamics, estimator, cast(Any, None))
                watch.reset(now, update, call, fault, item)
                carry, state, made = step(params, now.carry, now.state, item, signs)
                loss, fault = watch.look(made, now.state, state)
            if fault is not None:
                watch.refuse(now, backend, call, fault, item)
                now.steps += 1
                return made, False
            now.carry, now.state = carry, state
            now.steps, now.example = now.steps + 1, item
            model.trained.keep(made.aux, now.steps)
            watch.taken(now, loss)
            return made, True
        except Exception as error:
            if not isinstance(error, UOROError):
                _note_window(error, now.state, item)
            raise
        finally:
            self._busy = False
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
