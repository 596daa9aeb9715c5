"""The protocol of what `Online` trains, and its plain form: a function."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

import torch
from torch import Tensor

from uoro.backend import Backend
from uoro.dynamics import Dynamics
from uoro.errors import SettingError
from uoro.estimator import Estimator, ParallelEstimator
from uoro_torch.guards import differences, looks
from uoro_torch.remembering import Then, remember


class Trained(Protocol):
    """A model as `Online` steps it: what it is given, and what changes between steps.

    Attributes:
        dynamics: Forward, JVP and VJP of the model.
        transition: The model as a function of params, state and item, with several streams of
            stacks; ``None`` if it is not known.
    """

    @property
    def dynamics(self) -> Dynamics[Any, Any, Any]: ...  # noqa: D102

    @property
    def transition(self) -> Callable[..., Any] | None: ...  # noqa: D102

    def item(self, inputs: tuple[Any, ...], seed: int, step: int, /) -> Any:
        """Return the item of a step, made of the arguments of `Online.step`.

        Args:
            inputs: Arguments of `Online.step`.
            seed: Seed of `Online`.
            step: Number of steps taken before.
        """
        ...

    def mode(self) -> list[bool]:
        """Return flags; when they change, the model is checked again."""
        ...

    def begin(self, state: Any, item: Any, *, again: bool) -> None:
        """Prepare the model check, before the first step and after a change of `mode`."""
        ...

    def without_loss(self) -> Trained:
        """Return the same model without its loss: what its output is, the loss is computed from."""
        ...

    def kept(self) -> AbstractContextManager[None]:
        """Return a context that leaves the model as it was."""
        ...

    def remember(self) -> Then:
        """Return what puts the model back as it is now, but for the params."""
        ...

    def keep(self, aux: Any, step: int, /) -> None:
        """Keep what the transition returned besides, after a step."""
        ...


class TrainedTransition:
    """A function, in which nothing changes between steps.

    Args:
        transition: The function, or dynamics.
        backend: Backend of the tensors.
        estimator: Estimator; one of several streams maps the function over them.
        params: Dict of tensors to train.
    """

    def __init__(
        self, transition: Any, backend: Backend, estimator: Estimator, params: dict[str, Tensor]
    ) -> None:
        self._params, self._known, self._looks = params, _forms(params), looks(params)
        plain = not hasattr(transition, "vjp")
        self.dynamics: Dynamics[Any, Any, Any] = (
            backend.dynamics(transition) if plain else transition
        )
        self.transition: Callable[..., Any] | None = transition if plain else None
        if plain and isinstance(estimator, ParallelEstimator):
            self.transition = torch.func.vmap(transition, in_dims=(None, 0, 0))

    def item(self, inputs: tuple[Any, ...], seed: int, step: int) -> Any:
        """Return one argument as it is, several as a tuple.

        Raises:
            SettingError: If a tensor among the params has another form than at the beginning.
        """
        if _forms(self._params) != self._known:
            raise SettingError(
                "Online.step(...): expected params of the shapes, dtypes and devices that they "
                f"had, got {differences(self._looks, looks(self._params))}. Make a new Online "
                "after a change."
            )
        return inputs[0] if len(inputs) == 1 else inputs

    def mode(self) -> list[bool]:
        """Return no flags: a function has one mode."""
        return []

    def begin(self, state: Any, item: Any, *, again: bool) -> None:
        """Prepare nothing."""

    def without_loss(self) -> Trained:
        """Return this: a function returns a loss or another output."""
        return self

    def kept(self) -> AbstractContextManager[None]:
        """Keep nothing."""
        return nullcontext()

    def remember(self) -> Then:
        """Remember whether there is autocast."""
        return remember(torch.device(self.dynamics.backend.device))

    def keep(self, aux: Any, step: int) -> None:
        """Keep nothing."""


def _forms(params: dict[str, Tensor]) -> list[Any]:
    return [(name, param.shape, param.dtype, param.device) for name, param in params.items()]
