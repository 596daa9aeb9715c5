"""A module as `Online` trains it: its parameters, its random draws, its buffers, its rows."""

from __future__ import annotations

from contextlib import AbstractContextManager
from copy import copy
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from uoro.algebra import differentiable, norm, shift
from uoro.arguments import require_callable, require_kind
from uoro.derivatives.routes import Routed
from uoro.errors import DerivativeError, SettingError
from uoro.estimator import ParallelEstimator
from uoro_torch.backend import TorchBackend
from uoro_torch.broadcasting import warn_of_broadcast
from uoro_torch.distributed import DistributedStreams
from uoro_torch.draws import seed_of
from uoro_torch.guards import (
    Look,
    differences,
    looks,
    require_params,
    require_plain_module,
    require_state,
    require_unpacked,
)
from uoro_torch.lifting import Lifted
from uoro_torch.module import Loss, ModuleTransition, SingleStep, steppable
from uoro_torch.module_dynamics import ModuleDynamics
from uoro_torch.parts import parts_of
from uoro_torch.places import attributes_restored
from uoro_torch.probing import observe, routed
from uoro_torch.remembering import Then, remember
from uoro_torch.trees import detach


class TrainedModule:
    """A module, its loss, and the parameters of it that require gradients.

    Args:
        module: Module called as ``module(input, state)``, or one of PyTorch's own.
        loss: Function of output and target; ``None`` to step without a loss.
        streams: Estimator that runs the module on the rows of a batch; ``None`` for one stream.
        check: Whether the module is checked at the first step.
        seeded: Whether each item carries a seed for what the module draws.

    Raises:
        SettingError: If nothing is to be trained, an embedding has sparse gradients that streams
            cannot take, or an argument is of the wrong kind.

    Attributes:
        dynamics: Forward, JVP and VJP of the module.
        transition: The module as a function.
        params: Parameters to train, by name.
    """

    def __init__(
        self,
        module: nn.Module,
        loss: Loss | None,
        streams: ParallelEstimator | None,
        *,
        check: bool,
        seeded: bool,
    ) -> None:
        self._call = f"Online.for_module({type(module).__name__}, loss)"
        require_kind(self._call, "module", module, nn.Module, "an nn.Module, made.")
        if loss is not None:
            require_callable(self._call, "loss", loss, "a function of output and target.")
        require_plain_module(self._call, module)
        self._module = steppable(getattr(module, "_orig_mod", module))  # what torch.compile wrapped
        self._taken, self._loss = (1 if loss is None else 2), loss
        self._step = "online(input)" if loss is None else "Online.step(input, target)"
        self._streams = streams
        self._rows = range(0) if streams is None else streams.rows
        self._seeded = seeded
        if streams is not None:
            _require_dense_gradients(self._module)
        named = dict[str, Tensor](self._module.named_parameters())
        self.params = {name: param for name, param in named.items() if param.requires_grad}
        if not self.params:
            raise SettingError(
                f"{self._call}: expected a module with parameters that require gradients, got "
                f"{'none' if named else 'one without parameters'}. Try module.requires_grad_()."
            )
        backend = TorchBackend(device=str(require_params(self.params)))
        rows = streams is not None
        self.transition = ModuleTransition(self._module, loss, rows=rows)
        make = partial(ModuleDynamics, backend, self.transition, rows)
        self._device = torch.device(backend.device)
        self.dynamics: Routed = routed(make, self._device, check=check, module=self._module)
        self._trained, self._known = self._fingerprint(), self._look()
        self._copied = False

    def __deepcopy__(self, memo: Any) -> TrainedModule:
        """Return a copy that refuses to step: its dynamics run the module that was copied."""
        copied = copy(self)
        copied._copied = True
        return copied

    def initial_state(self, state: Any) -> Any:
        """Return the state given, or zeros, a row for each stream that runs here.

        Args:
            state: State to start from; ``None`` for zeros of one of PyTorch's own modules, and for
                the state of a lifted one.

        Raises:
            SettingError: If there is none, and it is another module.
            StructureError: If one of PyTorch's own modules has states of another form.
        """
        if state is not None:
            require_state("Online(state=...)", state)
            if isinstance(self._module, SingleStep):
                self._module.require_state(state, len(self._rows) or None)
            return state
        if not isinstance(self._module, (SingleStep, Lifted)):
            raise SettingError(
                f"{self._call}: expected the initial state as the third argument, got none; only "
                "that of PyTorch's own modules and of lift_state(module, input) is known. Try "
                "torch.zeros(units)."
            )
        return self._module.initial_state(len(self._rows) or None)

    def item(self, inputs: tuple[Any, ...], seed: int, step: int) -> Any:
        """Return the input, with a loss the target, and the seed of what the module draws.

        Raises:
            SettingError: If there are more or fewer, or the module is no longer the one given.
        """
        if len(inputs) != self._taken:
            expected = ("one argument, the input", "two arguments, the input and the target")
            raise SettingError(
                f"{self._step.partition('(')[0]}(...): expected {expected[self._taken - 1]}, got "
                f"{len(inputs)}. If the module needs more, pass a tuple or a dict of them"
                f"{'; for step(input, target), pass the loss' if self._taken == 1 else ''}."
            )
        if self._copied:
            raise SettingError(
                f"{self._step}: expected the Online of Online.for_module, got a deep "
                "copy of it. Call Online.for_module on a copy of the module, and "
                "load_state_dict(online.state_dict())."
            )
        if self._fingerprint() != self._trained:
            raise SettingError(
                f"{self._step}: expected the parameters that the module had, got "
                f"{differences(self._known, self._look())}. Call Online.for_module again after a "
                "change."
            )
        require_unpacked(self._step, inputs)
        return (*inputs, self._seed(seed, step)) if self._seeded else inputs

    def mode(self) -> list[bool]:
        """Return which parts of the module are in training mode."""
        return [part.training for part in parts_of(self._module)]

    def begin(self, state: Any, item: Any, *, again: bool) -> None:
        """Prepare the module for a check at the next step.

        Args:
            state: State before the step.
            item: Item of the step.
            again: Whether the module was checked before, in another mode.

        Raises:
            DerivativeError: If the rows of a batch of streams depend on each other.
        """
        if again:
            self.dynamics.forget()
        if self._streams is not None and self.dynamics.checks:
            self._require_independent_rows(state, item)
        if self._taken == 2 and self.dynamics.checks and isinstance(item[1], Tensor):
            self._look_at_target(state, item)

    def without_loss(self) -> TrainedModule:
        """Return the module to be stepped without the loss."""
        if self._taken == 1:
            return self
        made = TrainedModule(
            self._module, None, self._streams, check=self.dynamics.checks, seeded=self._seeded
        )
        made._trained, made._known, made._copied = self._trained, self._known, self._copied
        return made

    def kept(self) -> AbstractContextManager[None]:
        """Return a context that restores the attributes of the module."""
        return attributes_restored(self._module)

    def remember(self) -> Then:
        """Remember buffers and modes of the module."""
        return remember(self._device, self._module)

    def keep(self, buffers: dict[str, Tensor], step: int) -> None:
        """Write the buffers that a step computed into the module.

        Args:
            buffers: Buffers by name; with streams, a stack of each.
            step: Number of steps taken.

        Raises:
            StructureError: If they differ between processes after the first step.
        """
        if not buffers:
            return
        with torch.no_grad():
            for name, buffer in list(self._module.named_buffers()):
                if name not in buffers:
                    continue
                made = buffers[name]
                value = made if made is None or self._streams is None else made[0]
                if value is not None and (value.shape, value.dtype) == (buffer.shape, buffer.dtype):
                    buffer.copy_(value)
                else:  # The forward pass made another in its place, or none.
                    above, _, last = name.rpartition(".")
                    part = self._module.get_submodule(above)
                    part._buffers[last] = None if value is None else value.clone()
        if step == 1 and isinstance(self._streams, DistributedStreams):
            self._streams.require_same(
                dict(self._module.named_buffers()),
                "Online.step(input, target), the buffers after the first step",
                "A buffer that the forward pass fills from its input differs by process: call "
                "eval() of that module, or keep it in the state. Start all processes the same",
            )

    def _fingerprint(self) -> list[Any]:
        """Return what tells the trained parameters from others."""
        found = list[Any]()
        for part in parts_of(self._module):
            found += [
                (id(p), p.dtype, p.device, p.shape)
                for p in part._parameters.values()
                if p is not None and p.requires_grad
            ]
        return found

    def _look(self) -> dict[str, Look]:
        """Return the same by name."""
        named = dict[str, Tensor](self._module.named_parameters())
        return looks({name: p for name, p in named.items() if p.requires_grad}, numbered=True)

    def _seed(self, seed: int, step: int) -> Tensor:
        # The rows of other processes draw other numbers.
        first = self._rows.start
        number = torch.tensor(
            seed_of((seed, step, first) if first else (seed, step)), dtype=torch.int64
        )
        return number.repeat(len(self._rows)) if self._rows else number

    def _look_at_target(self, state: Any, item: Any) -> None:
        """Warn if the target broadcasts against the output; of streams, look at the first row."""
        transition = ModuleTransition(self._module, None, rows=self._streams is not None)
        given = tuple(part for i, part in enumerate(item) if i != 1)
        with observe(self._device, self._module):
            _, output, _ = transition(self.params, state, given)
        output, target = detach(output), item[1]
        if self._streams is not None and isinstance(output, Tensor):
            output, target = output[:1], target[:1]
        warn_of_broadcast(self._loss, output, target)

    def _require_independent_rows(self, state: Any, item: Any) -> None:
        """Raise if the row of one stream changes the results of others."""
        backend = self.dynamics.backend
        step = backend.vmap(lambda state, item: self.dynamics.forward(self.params, state, item))
        zero = backend.zeros(state)
        nudge = backend.map(lambda leaf: torch.cat([leaf[:1] + 1.0, leaf[1:]]), zero)
        with observe(torch.device(backend.device), self._module):
            one, two = (step(start, item) for start in (state, shift(backend, state, 1.0, nudge)))
        others = [
            [leaf[1:] for leaf in differentiable(backend, tuple(outcome[:2]))]
            for outcome in (one, two)
        ]
        gap = float(norm(backend, backend.combine((1.0, others[0]), (-1.0, others[1]))))
        if gap > 1e-3 * float(norm(backend, others[0])):
            raise DerivativeError(
                f"{self._call}: expected independent rows of the batch, one for each stream, got "
                "rows that change each other's results, so that a stream has no gradient of its "
                "own. For BatchNorm, use LayerNorm, or eval() of that module; a state in PyTorch's "
                "order (layers, batch, units) has to come with its rows first. Without streams the "
                "batch is one state."
            )


def _require_dense_gradients(module: nn.Module) -> None:
    embeddings = (nn.Embedding, nn.EmbeddingBag)
    if any(isinstance(part, embeddings) and part.sparse for part in module.modules()):
        raise SettingError(
            "Online.for_module(streams=...): expected embeddings with dense gradients, got one "
            "with sparse=True, and PyTorch has no sparse gradients for each row of a batch. Use "
            "sparse=False."
        )
