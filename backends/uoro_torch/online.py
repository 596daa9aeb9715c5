"""Online gradients, by ``loss.backward()`` or by a call that stands in for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from uoro.arguments import require_flag, require_seed
from uoro.deprecation import renamed_keywords
from uoro.dynamics import Dynamics
from uoro.estimator import Estimator
from uoro.estimators.auto import Auto
from uoro.estimators.chosen import Selection, as_estimator, described
from uoro_torch.backend import TorchBackend
from uoro_torch.encoders import Encoded
from uoro_torch.gradients import accumulate
from uoro_torch.guards import (
    require_fresh,
    require_params,
    require_state,
    require_streams,
)
from uoro_torch.module import Loss
from uoro_torch.module_online import TrainedModule
from uoro_torch.output import off_graph, on_graph
from uoro_torch.pending import PendingSteps
from uoro_torch.prepared import Prepared
from uoro_torch.restarting import restart_streams
from uoro_torch.running import Running, Shown
from uoro_torch.saving import SavedAsDict
from uoro_torch.stepping import Stepper
from uoro_torch.trained import TrainedTransition
from uoro_torch.trees import copied, detach
from uoro_torch.watching import OnNonfinite, Watch, Watched


class Online(Shown, Watched, SavedAsDict):
    """Add online gradients to ``.grad``; for an `nn.Module`, see `for_module`.

    Args:
        transition: Function ``(params, state, inputs) -> (next_state, output)``, or dynamics made
            of one, as by `uoro.unroll`. For `step` the output is the loss.
        params: Dict of tensors to train; their ``.grad`` is filled.
        state: Initial hidden state, any tree of tensors; with `Streams`, a stack with one row for
            each stream.
        estimator: Gradient estimator, or its name as on the command line. By default ``"auto"``:
            one that fits the model, chosen at the first step; `describe` says which, and why.
        seed: Seed of every random draw.
        compile: Whether a step is compiled as a whole, at first for half a minute.
        late: Whether every step runs on copies of the parameters, so that they may change in place
            before its ``backward()``; by default only while an earlier output waits for its own.
        on_nonfinite: What to do with a step whose loss, gradient or next state is not finite.
            ``"raise"``: raise `uoro.NonFiniteError`, with all as it was before. ``"skip"``: leave
            the item out. ``"reset"``: start the estimate anew, and the state if it is not finite,
            and try again; skip if that does not help. Both warn once, count, and log.

    Raises:
        SettingError: If there is nothing to train, several streams are to be compiled, a step of
            the estimator takes several items, or an argument is of the wrong kind.
        StructureError: If a leaf of the state is no tensor.

    Attributes:
        dynamics: The model; ``dynamics.describe()`` says how it is differentiated.
        state: Hidden state after the last step.
        carry: What the estimator carries from step to step; ``None`` before the first.
        steps: Number of steps taken, those skipped included.
        seed: Seed of every random draw.

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
        >>> online = Online.for_module(model, state=torch.zeros(8))
        >>> for _ in range(10):
        ...     x = torch.randn(2)
        ...     loss = torch.nn.functional.mse_loss(online(x), x.sum(0, keepdim=True))
        ...     loss.backward()
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
        estimator: Estimator | Auto | str | None = None,
        seed: int = 0,
        compile: bool = False,
        late: bool = False,
        on_nonfinite: OnNonfinite = "raise",
    ) -> None:
        backend = TorchBackend(device=str(require_params(params)))
        require_state("Online(state=...)", state)
        seed = require_seed("Online(seed=...)", seed)
        require_flag("Online(compile=...)", "compile", compile)
        self._selection = Selection(as_estimator("Online(estimator=...)", estimator))
        trained = TrainedTransition(transition, backend, self.estimator, params)
        self.dynamics: Any = trained.dynamics
        self._running = Running(params, state, copied(state), seed)
        self._watch = Watch(on_nonfinite, self.estimator, self._running.initial)
        self._stepper = Stepper(self._running, self._selection, self._watch)
        self._model = Prepared(trained, self._selection, compile=compile)
        self._pending, self._encoded = PendingSteps(params, late=late), Encoded()

    @classmethod
    def for_module(
        cls,
        module: nn.Module,
        loss: Loss | None = None,
        state: Any = None,
        *,
        streams: int | None = None,
        estimator: Estimator | Auto | str | None = None,
        seed: int = 0,
        check: bool = True,
        compile: bool = False,
        late: bool = False,
        on_nonfinite: OnNonfinite = "raise",
    ) -> Online:
        """Train the parameters of a module that require gradients.

        Seed and step determine what the module draws, as in dropout. Its buffers become what its
        own forward pass would make of them.

        Args:
            module: Module called as ``module(input, state)``, which returns ``(output,
                next_state)``; one of PyTorch's own recurrent modules; or what `lift_state` makes.
            loss: Function ``loss(output, target)`` that returns a scalar, for `step` alone.
            state: Initial hidden state, any tree of tensors; by default that of PyTorch's own
                modules and of `lift_state`. With several streams each leaf has one row for each.
            streams: Number of streams to run as the rows of one batch. Each has an estimate of its
                own, and the loss is called on each row as on a batch of one.
            estimator: Gradient estimator, or its name; chosen by default. One for several streams
                says how many there are; with `DistributedStreams` state and items are those of
                this process, and so is what the module draws. Buffers must come out the same in
                all processes.
            seed: Seed of every random draw.
            check: Whether the module is checked before the first step.
            compile: Whether to compile the whole of a step by `torch.compile`.
            late: Whether every step runs on copies of the parameters; see `Online`.
            on_nonfinite: What to do with a step that is not finite; see `Online`.

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
            late=late,
            on_nonfinite=on_nonfinite,
        )
        online._model = Prepared(trained, online._selection, compile=compile)
        return online

    @property
    def estimator(self) -> Any:
        """Gradient estimator; an `uoro.estimators.Auto` until the first step chooses one."""
        return self._selection.estimator

    def __call__(self, *inputs: Any) -> Any:
        """Take a step, and return its output: ``loss.backward()`` then fills ``.grad``.

        The backward pass of any loss, early or late, gives the parameters the online gradient and
        layers after the model their ordinary one. An output keeps its step alive, also after
        `reset`. The gradient is that at the parameters of the step, which runs on copies of them
        while an earlier output waits for its backward pass, and always with ``late``. Under
        `torch.no_grad` the step is taken, and the output has no graph.

        Args:
            *inputs: As for `step`; of a module the input alone. If it requires a gradient, what
                computed it gets the gradient of this step alone, with a warning.

        Returns:
            Output of the transition or the module: new tensors, in tuples, lists or dicts.

        Raises:
            DerivativeError: As `step`; from ``backward()`` if parameters or input changed in place,
                or at a second pass without ``retain_graph``.
            NonFiniteError: As `step`; from ``backward()`` if the gradient is not finite, outside
                of autocast, where a scaler looks after that.
            SettingError: If nothing requires a gradient, or the input was computed from an output
                of an `Online`.
        """
        model = self._model.without_loss
        given = model.trained.item(inputs, self.seed, self.steps)
        if not torch.is_grad_enabled():
            taken, _ = self._stepper.take("online(x)", model, self.params, detach(given))
            return off_graph(taken.output)
        encoded = self._encoded.found(given, model.trained.transition)
        params, item = self._pending.copied(detach(given))
        state, then, index = self.state, model.trained.remember(), self.steps
        taken, kept = self._stepper.take("online(x)", model, params, item)
        step = self._pending.add(taken, params, state, item, then)
        step.watched(self._watch, self._stepper.threads, index, kept=kept)
        if encoded:
            step.read_again(model.trained.transition, given)
        return on_graph(step, self.params, encoded)

    def peek(self, *inputs: Any) -> Any:
        """Return the output that ``online(x)`` would return, and advance nothing.

        Args:
            *inputs: As in ``online(x)``.
        """
        model = self._model.without_loss
        item = detach(model.trained.item(inputs, self.seed, self.steps))
        with model.trained.kept():
            return off_graph(model.forward(self.params, self.state, item))

    def step(self, *inputs: Any) -> Tensor:
        """Like ``loss.backward()``: adds the gradient to ``.grad`` and returns the loss.

        Args:
            *inputs: The item: one argument as it is, several as a tuple. A module takes two, the
                input and the target.

        Returns:
            The loss, detached: ``.grad`` is filled, and there is nothing left for ``backward()``.

        Raises:
            DerivativeError: At the first step, if the model cannot be differentiated, or the rows
                of a batch of streams depend on each other.
            NonFiniteError: If loss, gradient or next state is not finite, unless ``on_nonfinite``
                says otherwise.
        """
        item = self._model.trained.item(inputs, self.seed, self.steps)
        estimate, kept = self._stepper.take(
            "Online.step(...)", self._model, self.params, item, with_loss=True
        )
        if kept:
            self._watch.adds(self.params, self._pending.updates)
            accumulate(self.params, estimate.gradient)
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
        now = self._running
        fresh = copied(now.initial) if state is None else state
        require_fresh(self.dynamics.backend, fresh, now.initial)
        if mask is None:
            now.state, now.carry, now.waiting = fresh, None, None
            return
        restart_streams(now, self.estimator, self.dynamics, mask, fresh)

    def describe(self) -> str:
        """Return how the model is differentiated, and by which estimator, chosen for what reason.

        Before the first step neither is known whole.
        """
        return described(self.dynamics, self.estimator, self._selection.chosen)
