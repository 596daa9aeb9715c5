"""The call that stands in for ``loss.backward()``."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import partial
from typing import Any

import optree
import torch
from torch import Tensor, nn

from uoro.algebra import differentiable, entry, norm, select, shift
from uoro.arguments import (
    leaf_name,
    require_callable,
    require_count,
    require_estimator,
    require_flag,
    require_kind,
    require_like,
    require_seed,
    require_stack,
)
from uoro.derivatives.routes import probe
from uoro.dynamics import Dynamics
from uoro.errors import DerivativeError, SettingError, StructureError, spelled
from uoro.estimator import Estimator
from uoro.estimators import UORO
from uoro.estimators.streams import ParallelEstimator, Streams
from uoro_torch.backend import TorchBackend
from uoro_torch.compiling import CompiledStep
from uoro_torch.distributed import DistributedStreams
from uoro_torch.module import ModuleTransition, Step, steppable
from uoro_torch.module_dynamics import ModuleDynamics


class Online:
    """Fill ``.grad`` with an online gradient, one item at a time; your optimizer does the rest.

    For an `nn.Module` there is `for_module`.

    Args:
        model: A transition ``(params, state, inputs) -> (next_state, loss)``, or dynamics made
            of one, as for memory-T.
        params: A dict of tensors to be trained; their ``.grad`` is filled.
        state: The initial state; a stack of B with `Streams`.
        estimator: `UORO` of rank one unless given.
        seed: Determines every random draw.
        compile: Whether to compile the whole step by `torch.compile`. The first step then takes
            half a minute or so.

    Raises:
        SettingError: If there is nothing to train, several streams were to be compiled, or one of
            the things given is not what it is to be.
        StructureError: If a leaf of the state is no tensor.

    Attributes:
        dynamics: The model; ``dynamics.describe()`` says how it is differentiated.
        state: The present state.
        carry: What the estimator carries; ``None`` before the first step.
        steps: How many steps were taken.

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
        model: Callable[..., Any] | Dynamics[Any, Any, Any],
        params: dict[str, Tensor],
        state: Any,
        *,
        estimator: Estimator | None = None,
        seed: int = 0,
        compile: bool = False,
    ) -> None:
        backend = _backend_of(params)
        _require_tensors("Online(state=...)", state)
        self._seed = require_seed("Online(seed=...)", seed)
        require_flag("Online(compile=...)", "compile", compile)
        if estimator is not None:
            require_estimator("Online(estimator=...)", estimator)
        self.params = params
        self.state = state
        self.estimator = estimator if estimator is not None else UORO()
        self._parallel = self.estimator if isinstance(self.estimator, ParallelEstimator) else None
        if compile and self._parallel is not None:
            raise SettingError(
                "Online(compile=True, streams=...): several streams are not compiled. Take one of "
                "the two."
            )
        given: Any = model
        dynamics = given if hasattr(given, "vjp") else backend.dynamics(given)
        self.dynamics = dynamics
        self.carry: Any = None
        self.steps = 0
        self._initial = state
        self._module: nn.Module | None = None
        self._compile = compile
        self._advance: Callable[..., Any] = partial(self.estimator.step, dynamics)
        self._example: Any = None
        self._mode: list[bool] = []
        self._trained: list[Any] = []

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

        What the module draws, as in dropout, is determined by seed and step. Its buffers become
        what its own forward pass would make of them.

        Args:
            module: Called as ``module(input, state)``, it returns ``(output, next_state)``; or
                one of PyTorch's own recurrent modules, of which `Step` makes one.
            loss: Called as ``loss(output, target)``, it returns a scalar.
            state: The initial state; zeros for one of PyTorch's own modules. With several streams
                its leaves have one row for each.
            streams: How many streams the module is run on, as the rows of one batch. Each has a
                pair of its own, and the loss is called on each row as on a batch of one.
            estimator: `UORO` of rank one unless given. That of several streams says how many
                there are; with `DistributedStreams` state and items are those of this process,
                and so is what the module draws. Buffers must come out the same in all.
            seed: Determines every random draw.
            check: Whether the first step is preceded by a probe of the module.
            compile: Whether to compile the whole step by `torch.compile`.

        Hooks on parameters are not called: there is no backward pass of the whole to call them.

        Raises:
            SettingError: If nothing is to be trained, a state is wanted, streams were to be
                compiled, the estimator runs another number of them, or one of the things given is
                not what it is to be.
            StructureError: If a leaf of the state is no tensor.
        """
        call = f"Online.for_module({type(module).__name__}, loss)"
        require_kind(call, "module", module, nn.Module, "an nn.Module instance")
        require_callable(call, "loss", loss, "a function (output, target) -> loss")
        require_flag("Online.for_module(check=...)", "check", check)
        if streams is not None:
            streams = require_count(
                f"Online.for_module(streams={spelled(streams)})", "count of streams", streams
            )
        if isinstance(estimator, ParallelEstimator):
            _require_agreement(streams, estimator.count)
            several: ParallelEstimator | None = estimator
        else:
            several = None if streams is None else Streams(estimator or UORO(), streams)
        module = steppable(getattr(module, "_orig_mod", module))  # what torch.compile wrapped
        if state is None:
            if not isinstance(module, Step):
                raise SettingError(
                    f"Online.for_module({type(module).__name__}, loss): the initial state is "
                    "wanted as the third argument; that of PyTorch's own modules is known."
                )
            state = module.initial_state(None if several is None else len(several.rows))
        if several is not None and any(getattr(part, "sparse", False) for part in module.modules()):
            raise SettingError(
                "Online.for_module(streams=...): an embedding has sparse=True, and PyTorch has no "
                "sparse gradients for each row of a batch. Take sparse=False."
            )
        params = dict[str, Tensor](module.named_parameters())
        params = {name: param for name, param in params.items() if param.requires_grad}
        backend = _backend_of(params)
        rows = several is not None
        make = partial(ModuleDynamics, backend, ModuleTransition(module, loss, rows=rows), rows)
        online = cls(
            backend.routed(make, check=check, module=module),
            params,
            state,
            estimator=estimator if several is None else several,
            seed=seed,
            compile=compile,
        )
        online._module = module
        online._trained = online._fingerprint()
        return online

    def step(self, *inputs: Any) -> Tensor:
        """Run the model on one item and add the estimated gradient to each ``.grad``.

        Args:
            *inputs: The item: one argument as it is, several as a tuple. A model made by
                `for_module` takes two, the input and the target.

        Returns:
            The loss, detached. One that is not finite is returned as it is: looking at it would
            wait for the device at every step.

        Raises:
            DerivativeError: At the first step, if the model cannot be differentiated, or the rows
                of a batch of streams have to do with each other.
        """
        item: Any = inputs[0] if len(inputs) == 1 else inputs
        backend = self.dynamics.backend
        if self._module is not None:
            item = self._item(inputs)
        if self._example is None or self._mode != self._training():
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
        places = set[int]()
        for name, param in self.params.items():
            gradient = estimate.gradient[name]
            # Cloned as backward() does, where gradients share storage with each other.
            if gradient.data_ptr() in places or gradient._is_view() or not gradient.is_contiguous():
                gradient = gradient.clone(memory_format=torch.contiguous_format)
            places.add(gradient.data_ptr())
            if param.grad is None:
                param.grad = gradient
            else:
                with torch.no_grad():
                    param.grad.add_(gradient)
        self._keep_buffers(estimate.aux)
        loss: Tensor = estimate.loss
        return loss

    def reset(self, mask: Any = None, *, state: Any = None) -> None:
        """Start anew, with a zero pair: an episode has ended.

        Args:
            mask: With several streams, a boolean for each: which of them start anew. All if not
                given.
            state: The state to start from, of all streams; the initial one if not given.

        Raises:
            SettingError: If a mask is given for a single stream.
            StructureError: If the mask is no boolean for each stream, or the state is not like the
                initial one.
        """
        fresh = self._initial if state is None else state
        _require_tensors("Online.reset(state=...)", fresh)
        require_like(
            self.dynamics.backend,
            fresh,
            self._initial,
            call="Online.reset(state=...)",
            hint="Give one like the state that training began with.",
        )
        if mask is None:
            self.state, self.carry = fresh, None
            return
        if self._parallel is None:
            raise SettingError(
                "Online.reset(mask): a mask picks among several streams, and there is one. "
                "Leave it out, or use streams=..., or estimator=Streams(UORO(), count)."
            )
        mask = self._mask(mask)
        if self.carry is None:
            self.state = select(self.dynamics.backend, mask, fresh, self.state)
            return
        self.carry, self.state = self._parallel.reset(
            self.dynamics,
            self.params,
            self.carry,
            self.state,
            mask,
            fresh,
            inputs=self._example,
        )

    def _mask(self, mask: Any) -> Tensor:
        rows = () if self._parallel is None else self._parallel.rows
        try:
            made = torch.as_tensor(mask, device=self.dynamics.backend.device).bool()
        except (TypeError, ValueError, RuntimeError, OverflowError):
            made = torch.empty(0)
        if made.shape != (len(rows),):
            raise StructureError(
                f"Online.reset({spelled(mask)}): wanted is a boolean for each of {len(rows)} "
                "streams, true where one starts anew."
            )
        return made

    def state_dict(self) -> dict[str, Any]:
        """Give everything that the next step depends on, but for the model and its parameters.

        Of several processes each gives what is its own.

        Returns:
            Tensors, numbers and lists of them: what `torch.save` and `torch.load` take.
        """
        return {
            "steps": self.steps,
            "seed": self._seed,
            "state": optree.tree_leaves(self.state),
            "memory": None if self.carry is None else optree.tree_leaves(self.carry),
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Go on from where `state_dict` was called, with the same kind of model and estimator.

        For `RollingTruncated`, whose memory holds items, take a step first.

        Raises:
            StructureError: If the tensors saved are not those of this model and estimator, or it is
                nothing that `state_dict` gave; all is then as it was.
        """
        call = "Online.load_state_dict(saved)"
        if not isinstance(saved, dict) or not saved.keys() >= {"steps", "seed", "state", "memory"}:
            raise StructureError(f"{call}: got {spelled(saved)}, wanted is what state_dict() gave.")
        seed = require_seed(call, saved["seed"])
        steps = require_count(call, "steps", saved["steps"], least=0)
        state, carry = _filled(self.state, saved["state"], "state"), None
        if saved["memory"] is not None:
            empty = self.estimator.init(self.dynamics, self.params, state, inputs=self._example)
            carry = _filled(empty, saved["memory"], "memory")
        self._seed, self.steps, self.state, self.carry = seed, steps, state, carry

    def _begin(self, item: Any) -> None:
        """Look at the model, again when it goes from training to evaluation; have it compiled."""
        if self._example is not None:
            self.dynamics.forget()
        first = (self.state, item)
        if self._parallel is not None:
            backend, rows = self.dynamics.backend, len(self._parallel.rows)
            require_stack(backend, self.state, rows, "Online(state=..., streams=...)")
            require_stack(backend, item, rows, "Online.step(...)")
            if self._module is not None and self.dynamics.checks:
                self._require_rows_alone(item)
            first = entry(self.dynamics.backend, first, 0)
        if self._compile:
            self._require_no_draws(first)
        probe(self.dynamics, self.params, *first)
        if self._compile and isinstance(self._advance, partial):
            # A route has to be there before anything is traced.
            zero = self.dynamics.backend.zeros(self.state)
            self.dynamics.jvp(self.params, self.state, item, zero)
            self._advance = CompiledStep(self._advance, torch.device(self.dynamics.backend.device))
        self._example, self._mode = item, self._training()

    def _item(self, inputs: tuple[Any, ...]) -> Any:
        """Make the item of a module, and see that it is still the one that was given."""
        if len(inputs) != 2:
            raise SettingError(
                f"Online.step(...): it got {len(inputs)} arguments; a module takes two, the input "
                "and the target. If it needs more, make a tuple or dict of them."
            )
        if self._fingerprint() != self._trained:
            raise SettingError(
                "Online.step(input, target): the parameters of the module that require gradients "
                "are not those it had, or not of their dtype or device: replaced, frozen, or cast. "
                "Call Online.for_module again, after such a change."
            )
        return inputs if self._compile else (*inputs, self._seed_of_step())

    def _fingerprint(self) -> list[Any]:
        """Tell the parameters that are trained."""
        found = list[Any]()
        parts = [] if self._module is None else [self._module]
        for part in parts:  # Which grows as it is walked along; Module.parameters() is slower.
            found += [
                (id(p), p.dtype, p.device)
                for p in part._parameters.values()
                if p is not None and p.requires_grad
            ]
            parts.extend(child for child in part._modules.values() if child is not None)
        return found

    def _training(self) -> list[bool]:
        """Tell which parts of the module are in training mode."""
        return [] if self._module is None else [part.training for part in self._module.modules()]

    def _seed_of_step(self) -> Tensor:
        key: tuple[int, ...] = (self._seed, self.steps)
        rows = range(0) if self._parallel is None else self._parallel.rows
        if rows.start:
            key = (*key, rows.start)  # other processes' rows draw something else
        digest = hashlib.blake2b(repr(key).encode(), digest_size=8).digest()
        seed = torch.tensor(int.from_bytes(digest) >> 1)
        return seed.repeat(len(rows)) if rows else seed

    def _keep_buffers(self, buffers: dict[str, Tensor] | None) -> None:
        if self._module is None or not buffers:
            return
        with torch.no_grad():
            for name, buffer in self._module.named_buffers():
                buffer.copy_(buffers[name] if self._parallel is None else buffers[name][0])
        if self.steps == 1 and isinstance(self.estimator, DistributedStreams):
            self.estimator.require_same(
                dict(self._module.named_buffers()),
                "Online.step(input, target), the buffers after the first step",
                "A buffer into which the forward pass puts what it sees is of one process alone: "
                "call eval() of that module, or keep it in the state; start all the same",
            )

    def _require_no_draws(self, first: Any) -> None:
        """Refuse to compile a module that draws."""
        with torch.random.fork_rng():
            before = torch.get_rng_state()
            self.dynamics.forward(self.params, *first)
            draws = not torch.equal(before, torch.get_rng_state())
        if draws:
            raise SettingError(
                "Online(compile=True): the module draws random numbers, as in dropout; forward, "
                "jvp and vjp of one compiled step would not see the same. Leave compile out."
            )

    def _require_rows_alone(self, item: Any) -> None:
        """Refuse a module in which the row of one stream moves the others."""
        backend = self.dynamics.backend
        step = backend.vmap(lambda state, item: self.dynamics.forward(self.params, state, item))
        zero = backend.zeros(self.state)
        nudge = backend.map(lambda leaf: torch.cat([leaf[:1] + 1.0, leaf[1:]]), zero)
        one, two = (
            step(state, item) for state in (self.state, shift(backend, self.state, 1.0, nudge))
        )
        others = [
            [leaf[1:] for leaf in [*differentiable(backend, outcome.next_state), outcome.loss]]
            for outcome in (one, two)
        ]
        gap = float(norm(backend, backend.combine((1.0, others[0]), (-1.0, others[1]))))
        if gap > 1e-3 * float(norm(backend, others[0])):
            raise DerivativeError(
                f"Online.for_module({type(self._module).__name__}, streams=...): the rows of the "
                "batch have to do with each other, as with BatchNorm in training mode, so that a "
                "stream has no gradient of its own. Use LayerNorm, or eval() of that module, or "
                "leave streams out: the batch is then one state with one pair."
            )


def _backend_of(params: Any) -> TorchBackend:
    """Find the device of the params.

    Raises:
        SettingError: If there are none, or they are no tensors.
    """
    if (
        not isinstance(params, dict)
        or not params
        or not all(isinstance(param, Tensor) for param in params.values())
    ):
        raise SettingError(
            f"Online(params={type(params).__name__}): wanted is a dict of tensors to train, "
            "with at least one."
        )
    return TorchBackend(device=str(next(iter(params.values())).device))


def _require_agreement(streams: int | None, count: int) -> None:
    """Refuse two numbers of streams.

    Raises:
        SettingError: If they differ.
    """
    if streams not in (None, count):
        raise SettingError(
            f"Online.for_module(streams={streams}, estimator=...): the estimator runs {count} "
            "streams. Leave streams out."
        )


def _require_tensors(call: str, state: Any) -> None:
    """Refuse a state to start from that is not what it seems.

    Raises:
        StructureError: If a leaf is no tensor.
        SettingError: If one is to be trained.
    """
    paths, leaves, _ = optree.tree_flatten_with_path(state)
    for path, leaf in zip(paths, leaves, strict=True):
        name = leaf_name("/".join(map(str, path)))
        if not isinstance(leaf, Tensor):
            raise StructureError(
                f"{call}: {name} is a {type(leaf).__name__}, wanted are tensors, in "
                "tuples, lists or dicts. Make it one: torch.tensor(...)."
            )
        if leaf.requires_grad:
            raise SettingError(
                f"{call}: {name} requires a gradient, and the initial state is not "
                "trained. Give it as .detach()."
            )


def _filled(tree: Any, leaves: list[Tensor], what: str) -> Any:
    """Put leaves that were saved into the places of a tree."""
    mine, structure = optree.tree_flatten(tree)
    shapes = [tuple(leaf.shape) for leaf in mine]
    tensors = isinstance(leaves, list) and all(isinstance(leaf, Tensor) for leaf in leaves)
    if not tensors or [tuple(leaf.shape) for leaf in leaves] != shapes:
        got = f"has shapes {[tuple(x.shape) for x in leaves]}" if tensors else "is no list of them"
        raise StructureError(
            f"Online.load_state_dict(saved): the {what} saved {got}, wanted are {shapes}. Was it "
            "another model or estimator?"
        )
    return optree.tree_unflatten(
        structure,
        [new.to(old.device, old.dtype) for old, new in zip(mine, leaves, strict=True)],
    )
