"""The call that stands in for ``loss.backward()``."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from uoro.algebra import select
from uoro.errors import SettingError
from uoro.estimator import Estimator
from uoro.estimators import UORO
from uoro.parallel import Streams
from uoro_torch.backend import TorchBackend
from uoro_torch.module import module_transition


class Online:
    """Fill ``.grad`` with an online gradient, one item at a time; your optimizer does the rest.

    Args:
        transition: ``(params, state, inputs) -> (next_state, loss)``; see `for_module`.
        params: A dict of tensors to be trained; their ``.grad`` is filled.
        state: The initial state; a stack of B with `Streams`.
        estimator: `UORO` of rank one unless given.
        seed: Determines every random draw.

    Example:
        >>> import torch
        >>> from uoro_torch import Online
        >>> class Model(torch.nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.cell, self.readout = torch.nn.GRUCell(2, 8), torch.nn.Linear(8, 1)
        ...     def forward(self, input, state):
        ...         state = self.cell(input, state)
        ...         return self.readout(state), state
        >>> model = Model()
        >>> optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
        >>> online = Online.for_module(model, torch.nn.functional.mse_loss, torch.zeros(8))
        >>> for _ in range(10):
        ...     x = torch.randn(2)
        ...     loss = online.step(x, x.sum(0, keepdim=True))
        ...     optimizer.step()
        ...     optimizer.zero_grad()
    """

    def __init__(
        self,
        transition: Callable[..., Any],
        params: dict[str, Tensor],
        state: Any,
        *,
        estimator: Estimator | None = None,
        seed: int = 0,
    ) -> None:
        if not isinstance(params, dict) or not params:
            raise SettingError(
                f"Online(params={type(params).__name__}): wanted is a dict of tensors to train, "
                "with at least one."
            )
        self.params = params
        self.state = state
        self.estimator = estimator if estimator is not None else UORO()
        self.memory: Any = None
        self.steps = 0
        self._backend = TorchBackend(device=str(next(iter(params.values())).device))
        self._dynamics = self._backend.dynamics(transition)
        self._key = self._backend.key(seed)
        self._example: Any = None

    @classmethod
    def for_module(
        cls,
        module: nn.Module,
        loss: Callable[[Any, Any], Tensor],
        state: Any,
        *,
        estimator: Estimator | None = None,
        seed: int = 0,
    ) -> Online:
        """Train the parameters of a module that require gradients.

        Args:
            module: Called as ``module(input, state)``, it returns ``(output, next_state)``.
            loss: Called as ``loss(output, target)``, it returns a scalar.
            state: The initial state.
            estimator: `UORO` of rank one unless given.
            seed: Determines every random draw.
        """
        params = {name: p for name, p in module.named_parameters() if p.requires_grad}
        transition = module_transition(module, loss)
        return cls(transition, dict[str, Tensor](params), state, estimator=estimator, seed=seed)

    def step(self, *inputs: Any) -> Tensor:
        """Run the model on one item and add the estimated gradient to each ``.grad``.

        Args:
            *inputs: The item: one argument as it is, several as a tuple. A model made by
                `for_module` takes two, the input and the target.

        Returns:
            The loss, detached. One that is not finite is returned as it is: looking at it would
            wait for the device at every step.
        """
        item = inputs[0] if len(inputs) == 1 else inputs
        backend, dynamics = self._backend, self._dynamics
        if self.memory is None:
            self.memory = self.estimator.init(dynamics, self.params, self.state, inputs=item)
            self._example = item
        noise = self.estimator.draw(
            partial(backend.random, backend.fold(self._key, self.steps)), self.state
        )
        self.memory, self.state, estimate = self.estimator.step(
            dynamics, self.params, self.memory, self.state, item, noise
        )
        self.steps += 1
        for name, param in self.params.items():
            # Cloned as backward() does: gradients may share storage with each other.
            gradient = estimate.gradient[name].clone(memory_format=torch.contiguous_format)
            param.grad = gradient if param.grad is None else param.grad + gradient
        loss: Tensor = estimate.loss  # type: ignore[assignment]  # a torch scalar is a Tensor
        return loss

    def reset(self, state: Any, mask: Tensor | None = None) -> None:
        """Start anew, with a zero pair: an episode has ended.

        Args:
            state: The state to start from; a stack of B with `Streams`.
            mask: With `Streams`, B booleans: which streams start anew. All if not given.

        Raises:
            SettingError: If a mask is given for a single stream.
        """
        if mask is None:
            self.state, self.memory = state, None
        elif isinstance(self.estimator, Streams):
            if self.memory is None:
                self.state = select(self._backend, mask, state, self.state)
                return
            self.memory, self.state = self.estimator.reset(
                self._dynamics,
                self.params,
                self.memory,
                self.state,
                mask,
                state,
                inputs=self._example,
            )
        else:
            raise SettingError(
                "Online.reset(mask=...): a mask picks among several streams, and there is one. "
                "Leave it out, or use estimator=Streams(UORO(), count)."
            )
