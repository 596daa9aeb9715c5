"""An `nn.Module` with a hidden state, as a transition."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, TypeAlias

import optree
import torch
from torch import Tensor, nn
from torch.func import functional_call

from uoro.arguments import require_callable, require_count, require_kind
from uoro.errors import SettingError, StructureError, spelled
from uoro_torch.aliases import Aliases
from uoro_torch.draws import seeded
from uoro_torch.guards import require_plain_module
from uoro_torch.parts import buffers_of

CELLS = (nn.RNNCell, nn.GRUCell, nn.LSTMCell)
LAYERS = (nn.RNN, nn.GRU, nn.LSTM)

Loss: TypeAlias = Callable[[Any, Any], Tensor]
"""Function ``loss(output, target)``."""

_Place: TypeAlias = tuple[list[tuple[nn.Module, str, nn.Module]], nn.Module, str]
"""The modules on the way to a parameter, the one that has it, and what it is called there."""


class ModuleTransition:
    """A module as a transition, pure in its arguments; with a loss or without.

    It is called as ``(params, state, inputs)``. ``params`` is ``dict(module.named_parameters())``
    or a part of it; the other parameters stay as they are in the module. ``inputs`` is
    ``(input, target)`` or ``(input, target, seed)``, without a loss ``(input,)`` or ``(input,
    seed)``, with an integer tensor that seeds all that the module draws and leaves the global
    random state as it is. The transition returns the next state, the loss or output, and the
    module's buffers after the step. Parameters and buffers of the module itself do not change;
    attributes that its forward pass sets do, once for each pass.

    Args:
        module: Module called as ``module(input, state)``, which returns ``(output, next_state)``.
        loss: Function ``loss(output, target)`` that returns a scalar; ``None`` to return the
            output of the module.
        rows: Whether state and inputs have a leading axis of rows. The module then runs on all rows
            at once, and the loss on each row as on a batch of one.

    Raises:
        SettingError: If the module is no `nn.Module` or a scripted, parallel or lazy one, or the
            loss no function.
    """

    def __init__(self, module: nn.Module, loss: Loss | None = None, *, rows: bool = False) -> None:
        _require_module("ModuleTransition(module, loss)", module, loss)
        self.module = module
        self._loss = loss
        self._rows = rows
        self._places: list[_Place] | None = None
        self._aliases: Aliases | None = None

    def __call__(self, params: Any, state: Any, inputs: Any) -> tuple[Any, Any, Any]:
        """Run one step."""
        given, *rest = inputs
        target = None if self._loss is None else rest.pop(0)
        seed = rest
        buffers = {name: buffer.clone() for name, buffer in buffers_of(self.module).items()}
        everything = {**params, **buffers}
        with seeded(seed[0]) if seed else nullcontext():
            if not buffers and self._holds(params):
                returned = self.module(given, state)
            else:
                if self._aliases is None:
                    self._aliases = Aliases(self.module, params)
                with self._aliases.replaced(params):
                    returned = functional_call(self.module, everything, (given, state))
        if not isinstance(returned, tuple) or len(returned) != 2:
            raise StructureError(
                f"{type(self.module).__name__}(input, state): expected a pair (output, "
                f"next_state), got {spelled(returned)}. Return both from forward()."
            )
        output, next_state = returned
        # Autocast computes the next state in a coarser dtype.
        next_state = optree.tree_map(_in_dtype_of, state, next_state)
        if self._loss is not None:
            of = self._losses if self._rows else self._loss
            output = of(output, target)
        return next_state, output, {name: everything[name] for name in buffers}

    def _holds(self, params: dict[str, Any]) -> bool:
        """Return whether these are the module's own parameters, so that it can run as it is."""
        if torch.compiler.is_compiling():
            return False
        if self._places is None:
            self._places = [self._place(name) for name in params]
        return len(params) == len(self._places) and all(
            owner._parameters.get(name) is param
            and all(above._modules.get(child) is below for above, child, below in path)
            for (path, owner, name), param in zip(self._places, params.values(), strict=True)
        )

    def _place(self, full_name: str) -> _Place:
        """Return the owner of a parameter, and the modules on the way to it."""
        *names, last = full_name.split(".")
        path, owner = list[tuple[nn.Module, str, nn.Module]](), self.module
        for name in names:
            below = owner.get_submodule(name)
            path.append((owner, name, below))
            owner = below
        return path, owner, last

    def _losses(self, output: Any, target: Any) -> Tensor:
        loss: Any = self._loss

        def of_row(output: Any, target: Any) -> Any:
            pair: Any = (output, target)
            return loss(*optree.tree_map(lambda leaf: leaf[None], pair))

        both: Any = (output, target)
        leaves: list[Any]
        leaves, structure = optree.tree_flatten(both)

        def flat(*leaves: Tensor) -> Any:
            return of_row(*optree.tree_unflatten(structure, leaves))

        losses: Tensor = torch.func.vmap(flat)(*leaves)
        return losses


def module_transition(
    module: nn.Module, loss: Loss | None = None
) -> Callable[[Any, Any, Any], tuple[Any, Any, Any]]:
    """Return a transition of a module, for ``backend.dynamics(…, has_aux=True)``.

    It is a building block for `uoro.Learner`; in a loop of PyTorch's own, use `Online.for_module`.

    Args:
        module: Module called as ``module(input, state)``, which returns ``(output, next_state)``;
            or one of PyTorch's own recurrent modules.
        loss: Function ``loss(output, target)`` that returns a scalar; without one the transition
            returns the output of the module.

    Raises:
        SettingError: If the module is no `nn.Module` or a scripted, parallel or lazy one, or the
            loss no function.
    """
    _require_module("module_transition(module, loss)", module, loss)
    return ModuleTransition(steppable(module), loss)


class SingleStep(nn.Module):
    """One of PyTorch's own recurrent modules, run one step at a time.

    The input is one vector, or one for each row; the output is that of the last layer. The state
    has the form that `initial_state` returns: for an LSTM a pair (hidden, cell); with layers, each
    part has shape (rows, layers, units) or (layers, units).

    Args:
        core: `nn.RNNCell`, `nn.GRUCell`, `nn.LSTMCell`, `nn.RNN`, `nn.GRU` or `nn.LSTM`.

    Raises:
        SettingError: If it is another module, or a bidirectional one.
    """

    def __init__(self, core: nn.Module) -> None:
        super().__init__()
        if not isinstance(core, CELLS + LAYERS):
            raise SettingError(
                f"SingleStep(core): expected one of "
                f"{', '.join(kind.__name__ for kind in CELLS + LAYERS)}, got {spelled(core)}. A "
                "module of your own needs no SingleStep: try Online.for_module(module, loss)."
            )
        if isinstance(core, LAYERS) and core.bidirectional:
            raise SettingError(
                f"SingleStep({type(core).__name__}): expected a module that reads its input "
                "forwards, got a bidirectional one, which reads the future first. Use "
                "bidirectional=False."
            )
        self.core = core

    def initial_state(self, rows: int | None = None) -> Any:
        """Return a state of zeros.

        Args:
            rows: Number of streams; ``None`` for a single one, without an axis of rows.

        Raises:
            SettingError: If the number of rows is no positive integer.
        """
        if rows is not None:
            rows = require_count(f"SingleStep.initial_state(rows={spelled(rows)})", "rows", rows)
        core: Any = self.core
        lead = [] if rows is None else [rows]
        layers = [] if isinstance(core, CELLS) else [core.num_layers]
        like = next(core.parameters()).detach()
        zeros = [
            like.new_zeros([*lead, *layers, units])
            for units in (getattr(core, "proj_size", 0) or core.hidden_size, core.hidden_size)
        ]
        return tuple(zeros) if isinstance(core, (nn.LSTMCell, nn.LSTM)) else zeros[0]

    def forward(self, input: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Run one step."""
        core: Any = self.core
        self._require_one_step(input, state)
        if isinstance(core, CELLS):
            state = core(input, state)
            return (state[0] if isinstance(core, nn.LSTMCell) else state), state
        rows = input.dim() > 1
        if rows:
            state = optree.tree_map(lambda leaf: leaf.transpose(0, 1).contiguous(), state)
        time = 1 if rows and core.batch_first else 0
        output, state = core(input.unsqueeze(time), state)
        if rows:
            state = optree.tree_map(lambda leaf: leaf.transpose(0, 1), state)
        return output.squeeze(time), state

    def require_state(self, state: Any, rows: int | None) -> None:
        """Raise if a state has not the form of `initial_state`.

        Args:
            state: State to look at.
            rows: Number of streams; ``None`` for a single one, of which the state may be a batch.

        Raises:
            StructureError: If structure or shapes differ.
        """
        like: Any = self.initial_state(rows)
        wanted = [tuple(leaf.shape) for leaf in optree.tree_leaves(like)]
        got = [tuple(getattr(leaf, "shape", ())) for leaf in optree.tree_leaves(state)]
        batch = [] if rows or not got else list(got[0][: len(got[0]) - len(wanted[0])])
        same = optree.tree_structure(state) == optree.tree_structure(like)
        if not same or len(batch) > 1 or got != [(*batch, *shape) for shape in wanted]:
            kind = type(self.core).__name__
            order = "; rows come first, where PyTorch has (layers, batch, units)"
            order = "" if isinstance(self.core, CELLS) else order
            raise StructureError(
                f"Online.for_module({kind}, state=...): expected a state of "
                f"{'one tensor' if len(wanted) == 1 else 'a pair of tensors'} of shape "
                f"{wanted[0]}{order}, got a {type(state).__name__} of {spelled(got)}. Leave the "
                "state out to start from zeros, or use .transpose(0, 1)."
            )
        for leaf, given in zip(optree.tree_leaves(like), optree.tree_leaves(state), strict=True):
            if given.dtype != leaf.dtype:
                raise StructureError(
                    f"Online.for_module({type(self.core).__name__}, state=...): expected the dtype "
                    f"of the parameters, {leaf.dtype}, got {given.dtype}. Try .to({leaf.dtype})."
                )

    def _require_one_step(self, input: Any, state: Any) -> None:
        """Raise if the input is no vector, or no row for each row of the state."""
        call = f"{type(self.core).__name__}(input, state), one step"
        if not isinstance(input, Tensor):
            raise StructureError(
                f"{call}: expected a tensor, got {spelled(input)}. Try torch.as_tensor(input)."
            )
        dims = optree.tree_leaves(state)[0].dim() - (not isinstance(self.core, CELLS))
        if input.dim() != dims:
            raise StructureError(
                f"{call}: expected an input with {dims} {'axis' if dims == 1 else 'axes'}, got "
                f"shape {tuple(input.shape)}. Step through a window (time, features) item by item; "
                "for several sequences at once, use streams=."
            )


def steppable(module: nn.Module) -> nn.Module:
    """Wrap one of PyTorch's own recurrent modules; return any other as it is."""
    own: Any = type(module).forward
    stock = any(own is kind.forward for kind in CELLS + LAYERS)
    return SingleStep(module) if stock else module


def _require_module(call: str, module: Any, loss: Any) -> None:
    require_kind(call, "module", module, nn.Module, "an nn.Module instance")
    require_plain_module(call, module)
    if loss is not None:
        require_callable(call, "loss", loss, "a function (output, target) -> loss")


def _in_dtype_of(leaf: Any, new: Any) -> Any:
    floating = isinstance(new, Tensor) and (new.is_floating_point() or new.is_complex())
    return new.to(leaf.dtype) if floating and isinstance(leaf, Tensor) else new
