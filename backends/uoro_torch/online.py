"""The call that stands in for ``loss.backward()``."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import optree
import torch
from torch import Tensor, nn

from uoro.algebra import entry, select
from uoro.arguments import (
    require_count,
    require_estimator,
    require_flag,
    require_like,
    require_seed,
    require_stack,
)
from uoro.deprecation import renamed_keywords
from uoro.derivatives.routes import probe
from uoro.dynamics import Dynamics
from uoro.errors import SettingError
from uoro.estimator import Estimator, ParallelEstimator
from uoro.estimators import UORO
from uoro_torch.backend import TorchBackend
from uoro_torch.compiling import CompiledStep, require_no_draws
from uoro_torch.gradients import accumulate
from uoro_torch.guards import (
    filled,
    require_mask,
    require_params,
    require_saved,
    require_state,
    require_streams,
)
from uoro_torch.module_online import TrainedModule
from uoro_torch.trained import Trained, TrainedTransition


class Online:
    """Add an online gradient to ``.grad`` at every item; for an `nn.Module`, see `for_module`.

    Args:
        transition: Function ``(params, state, inputs) -> (next_state, loss)``, or dynamics made
            of one, as by `uoro.unroll`.
        params: Dict of tensors to train; their ``.grad`` is filled.
        state: Initial hidden state, any tree of tensors; with `Streams`, a stack with one row for
            each stream.
        estimator: Gradient estimator; `UORO` of rank 1 by default.
        seed: Seed of every random draw.
        compile: Whether to compile the whole step by `torch.compile`. The first step then takes
            about half a minute.

    Raises:
        SettingError: If there is nothing to train, several streams are to be compiled, or an
            argument is of the wrong kind.
        StructureError: If a leaf of the state is no tensor.

    Attributes:
        dynamics: The model; ``dynamics.describe()`` says how it is differentiated.
        state: Hidden state after the last step.
        carry: What the estimator carries from step to step; ``None`` before the first.
        steps: Number of steps taken.

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

    @renamed_keywords("Online", {"model": "transition"})
    def __init__(
        self,
        transition: Callable[..., Any] | Dynamics[Any, Any, Any],
        params: dict[str, Tensor],
        state: Any,
        *,
        estimator: Estimator | None = None,
        seed: int = 0,
        compile: bool = False,
    ) -> None:
        backend = TorchBackend(device=str(require_params(params)))
        require_state("Online(state=...)", state)
        self._seed = require_seed("Online(seed=...)", seed)
        require_flag("Online(compile=...)", "compile", compile)
        if estimator is not None:
            require_estimator("Online(estimator=...)", estimator)
        self.params = params
        self.state = state
        self.estimator = estimator or UORO()
        self._streams = self.estimator if isinstance(self.estimator, ParallelEstimator) else None
        if compile and self._streams is not None:
            raise SettingError(
                "Online(compile=True, streams=...): expected one of the two, got both; several "
                "streams are not compiled. Leave one out."
            )
        given: Any = transition
        self.dynamics = given if hasattr(given, "vjp") else backend.dynamics(given)
        self.carry: Any = None
        self.steps = 0
        self._initial = state
        self._trained: Trained = TrainedTransition()
        self._compile = compile
        self._advance: Callable[..., Any] = partial(self.estimator.step, self.dynamics)
        self._example: Any = None
        self._mode = list[bool]()

    @classmethod
    def for_module(
        cls,
        module: nn.Module,
        loss: Callable[[Any, Any], Tensor],
        state: Any = None,
        *,
        streams: int | None = None,
        estimator: Estimator | None = None,
        seed: int = 0,
        check: bool = True,
        compile: bool = False,
    ) -> Online:
        """Train the parameters of a module that require gradients.

        Seed and step determine what the module draws, as in dropout. Its buffers become what its
        own forward pass would make of them.

        Args:
            module: Module called as ``module(input, state)``, which returns ``(output,
                next_state)``; one of PyTorch's own recurrent modules; or what `lift_state` makes.
            loss: Function ``loss(output, target)`` that returns a scalar.
            state: Initial hidden state, any tree of tensors; by default that of PyTorch's own
                modules and of `lift_state`. With several streams each leaf has one row for each.
            streams: Number of streams to run as the rows of one batch. Each has an estimate of its
                own, and the loss is called on each row as on a batch of one.
            estimator: Gradient estimator; `UORO` of rank 1 by default. One for several streams
                says how many there are; with `DistributedStreams` state and items are those of
                this process, and so is what the module draws. Buffers must come out the same in
                all processes.
            seed: Seed of every random draw.
            check: Whether the module is checked before the first step.
            compile: Whether to compile the whole step by `torch.compile`.

        Hooks on parameters see the gradient that is added to ``.grad``. Hooks on activations and
        modules see random signs as well; the model check refuses those that clip or rescale.

        Raises:
            SettingError: If nothing is to be trained, an initial state is missing, streams are to
                be compiled, the estimator runs another number of them, or an argument is of the
                wrong kind.
            StructureError: If a leaf of the state is no tensor.
        """
        require_flag("Online.for_module(check=...)", "check", check)
        require_flag("Online.for_module(compile=...)", "compile", compile)
        several = require_streams(streams, estimator)
        trained = TrainedModule(module, loss, several, check=check, seeded=not compile)
        online = cls(
            trained.dynamics,
            trained.params,
            trained.initial_state(state),
            estimator=estimator if several is None else several,
            seed=seed,
            compile=compile,
        )
        online._trained = trained
        return online

    def step(self, *inputs: Any) -> Tensor:
        """Like ``loss.backward()``: adds the gradient to ``.grad`` and returns the loss.

        Args:
            *inputs: The item: one argument as it is, several as a tuple. A model made by
                `for_module` takes two, the input and the target.

        Returns:
            The loss, detached. A loss that is not finite is returned as it is: a check would wait
            for the device at every step.

        Raises:
            DerivativeError: At the first step, if the model cannot be differentiated, or the rows
                of a batch of streams depend on each other.
        """
        item = self._trained.item(inputs, self._seed, self.steps)
        backend = self.dynamics.backend
        if self._example is None or self._mode != self._trained.mode():
            self._begin(item)
        if self.carry is None:
            self.carry = self.estimator.init(self.dynamics, self.params, self.state, inputs=item)
        signs = self.estimator.draw(
            partial(backend.random, backend.fold(backend.key(self._seed), self.steps)), self.state
        )
        self.carry, self.state, estimate = self._advance(
            self.params, self.carry, self.state, item, signs
        )
        self.steps += 1
        accumulate(self.params, estimate.gradient)
        self._trained.keep(estimate.aux, self.steps)
        loss: Tensor = estimate.loss
        return loss

    def reset(self, mask: Any = None, *, state: Any = None) -> None:
        """Start anew, with an estimate of zero: an episode has ended.

        Args:
            mask: Boolean for each of several streams, true where one starts anew; all by default.
            state: State to start from, of all streams; the initial one by default.

        Raises:
            SettingError: If a mask is given for a single stream.
            StructureError: If the mask is no boolean for each stream, or the state is not like the
                initial one.
        """
        fresh = self._initial if state is None else state
        backend, call = self.dynamics.backend, "Online.reset(state=...)"
        require_state(call, fresh)
        require_like(backend, fresh, self._initial, call=call, hint="Keep the initial form.")
        if mask is None:
            self.state, self.carry = fresh, None
            return
        if self._streams is None:
            raise SettingError(
                "Online.reset(mask): expected no mask for a single stream, got one. Leave it out, "
                "or use several streams."
            )
        mask = require_mask(mask, len(self._streams.rows), backend.device)
        if self.carry is None:
            self.state = select(backend, mask, fresh, self.state)
            return
        self.carry, self.state = self._streams.reset(
            self.dynamics, self.params, self.carry, self.state, mask, fresh, inputs=self._example
        )

    def state_dict(self) -> dict[str, Any]:
        """Return all that the next step depends on, but for the model and its parameters.

        It consists of tensors, numbers and lists, as `torch.save` takes them; each of several
        processes returns its own.
        """
        return {
            "steps": self.steps,
            "seed": self._seed,
            "state": optree.tree_leaves(self.state),
            "carry": None if self.carry is None else optree.tree_leaves(self.carry),
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Load what `state_dict` returned, for the same kind of model and estimator.

        For `RollingTruncated`, which carries items, take a step first.

        Args:
            saved: What `state_dict` returned. Before 0.2 its key ``"carry"`` was ``"memory"``.

        Raises:
            StructureError: If the tensors are not those of this model and estimator, or it is
                nothing that `state_dict` returned; nothing is changed then.
        """
        call = "Online.load_state_dict(saved)"
        saved = require_saved(call, saved)
        seed = require_seed(call, saved["seed"])
        steps = require_count(call, "steps", saved["steps"], least=0)
        state, carry = filled(self.state, saved["state"], "state"), None
        if saved["carry"] is not None:
            empty = self.estimator.init(self.dynamics, self.params, state, inputs=self._example)
            carry = filled(empty, saved["carry"], "carry")
        self._seed, self.steps, self.state, self.carry = seed, steps, state, carry

    def _begin(self, item: Any) -> None:
        """Check the model, again when it goes from training to evaluation; compile the step."""
        backend, first = self.dynamics.backend, (self.state, item)
        if self._streams is not None:
            rows = len(self._streams.rows)
            require_stack(backend, self.state, rows, "Online(state=..., streams=...)")
            require_stack(backend, item, rows, "Online.step(...)")
            first = entry(backend, first, 0)
        self._trained.begin(self.state, item, again=self._example is not None)
        if self._compile:
            require_no_draws(self.dynamics, self.params, *first)
        probe(self.dynamics, self.params, *first)
        if self._compile and not isinstance(self._advance, CompiledStep):
            # An autodiff mode has to be chosen before anything is traced.
            self.dynamics.jvp(self.params, self.state, item, backend.zeros(self.state))
            self._advance = CompiledStep(self._advance, torch.device(backend.device))
        self._example, self._mode = item, self._trained.mode()
