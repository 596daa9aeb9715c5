"""A model and an estimator that are ready to step: checked, and compiled if asked for."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, partial
from typing import Any

import optree
import torch

from uoro.algebra import entry
from uoro.arguments import require_stack
from uoro.derivatives.many import many
from uoro.derivatives.routes import probe
from uoro.dynamics import Outcome
from uoro.errors import SettingError
from uoro.estimator import ParallelEstimator
from uoro.estimators.chosen import Selection
from uoro.estimators.rolling import Window
from uoro.prediction import Prediction, predicting
from uoro_torch.compiling import CompiledStep, require_no_draws
from uoro_torch.guards import require_one_item
from uoro_torch.trained import Trained


class Prepared:
    """A model, and the estimator that steps it.

    Args:
        trained: The model, the source of its items and the keeper of its buffers.
        selection: The estimator, perhaps still to be chosen.
        compile: Whether `step`, `advance` and the gradients of predictions are compiled.

    Raises:
        SettingError: If several streams are to be compiled, or a step takes several items.

    Attributes:
        selection: The estimator; after `prepare` it is chosen.
        step: `Estimator.step`, of these dynamics.
        example: The first item since the last change of mode; ``None`` before the first step.
    """

    def __init__(
        self,
        trained: Trained,
        selection: Selection,
        *,
        compile: bool = False,
    ) -> None:
        estimator = selection.estimator
        require_one_item(estimator)
        self.trained, self.dynamics, self.selection = trained, trained.dynamics, selection
        self._streams = estimator if isinstance(estimator, ParallelEstimator) else None
        if compile and self._streams is not None:
            raise SettingError(
                "Online(compile=True, streams=...): expected one of the two, got both; several "
                "streams are not compiled. Leave one out."
            )
        self._compile = compile
        self.step: Callable[..., Any] = self._step_now
        self._forth: Callable[..., Any] = self._step_forth
        self._back: Callable[..., Any] = self._gradient
        self.example: Any = None
        self._mode = list[bool]()

    @cached_property
    def without_loss(self) -> Prepared:
        """The same model without its loss; a function has none of its own."""
        trained = self.trained.without_loss()
        if trained is self.trained:
            return self
        return Prepared(trained, self.selection, compile=self._compile)

    def draw(self, seed: int, step: int, state: Any) -> Any:
        """Draw the signs of a step."""
        backend = self.dynamics.backend
        return self.selection.estimator.draw(
            partial(backend.random, backend.fold(backend.key(seed), step)), state
        )

    def advance(self, *arguments: Any) -> Any:
        """Take a step whose loss comes later, as `Predicting.advance`.

        A compiled step keeps what it received, and its gradient runs it again.
        """
        if not self._compile:
            return self._predicting().advance(self.dynamics, *arguments)
        carry, state, output, aux = self._forth(*arguments)
        received = arguments[:-1]
        outcome = Outcome(state, output, aux)
        backend = self.dynamics.backend
        made = Prediction(backend, outcome, lambda given: self._back(*received, given))
        return carry, state, made

    def _predicting(self) -> Any:
        return predicting(self.selection.estimator, "online(x)")

    def _step_now(self, *arguments: Any) -> Any:
        return self.selection.estimator.step(self.dynamics, *arguments)

    def _step_forth(self, *arguments: Any) -> Any:
        carry, state, made = self._predicting().advance(self.dynamics, *arguments)
        return carry, state, made.output, made.aux

    def _gradient(self, *arguments: Any) -> Any:
        return self._predicting().gradient(self.dynamics, *arguments)

    def forward(self, params: Any, state: Any, item: Any) -> Any:
        """Return the output of a step."""
        self._require_rows(state, item)
        model = self.dynamics if self._streams is None else many(self.dynamics)
        return model.forward(params, state, item).output

    def prepare(self, params: Any, state: Any, item: Any, carry: Any) -> None:
        """Check the model, again when it goes from training to evaluation; compile the step.

        Raises:
            SettingError: If a window of items was filled by steps with a loss, or without.
            DerivativeError: If the model cannot be differentiated, or the rows of a batch of
                streams depend on each other.
        """
        if isinstance(carry, Window):
            _require_items(carry.inputs, item)
        if self.example is not None and self._mode == self.trained.mode():
            return
        self._require_rows(state, item)
        first = state, item
        if self._streams is not None:
            first = entry(self.dynamics.backend, first, 0)
        self.trained.begin(state, item, again=self.example is not None)
        if self._compile:
            require_no_draws(self.dynamics, params, *first)
        probe(self.dynamics, params, *first)
        self.selection.settle(self.dynamics, params, state, item)
        if self._compile and not isinstance(self.step, CompiledStep):
            # An autodiff mode has to be chosen before anything is traced.
            backend = self.dynamics.backend
            self.dynamics.jvp(params, state, item, backend.zeros(state))
            compiled = partial(CompiledStep, device=torch.device(backend.device))
            self.step, self._forth, self._back = map(
                compiled, (self.step, self._step_forth, self._gradient)
            )
        self.example, self._mode = item, self.trained.mode()

    def _require_rows(self, state: Any, item: Any) -> None:
        if self._streams is not None:
            backend, rows = self.dynamics.backend, len(self._streams.rows)
            require_stack(backend, state, rows, "Online(state=..., streams=...)")
            require_stack(backend, item, rows, "Online.step(...)")


def _require_items(window: Any, item: Any) -> None:
    kept: Any = optree.tree_structure(window)
    given: Any = optree.tree_structure(item)
    if kept != given:
        raise SettingError(
            "online(x): expected RollingTruncated to step either by online(x) or by step(x, y), "
            "got both, and its window holds items of one kind. Call reset() in between."
        )
