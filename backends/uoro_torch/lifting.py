"""State that a module keeps in attributes or buffers, made an argument and a result."""

from __future__ import annotations

from functools import partial
from typing import Any

import optree
import torch
from torch import Tensor, nn

from uoro.arguments import require_count, require_kind
from uoro.derivatives.choosing import first_words
from uoro.errors import StructureError, spelled
from uoro_torch.dependence import FILLS, filled, same
from uoro_torch.draws import seeded
from uoro_torch.guards import require_plain_module
from uoro_torch.places import Place, copied, lent, places, restored, tensors_in
from uoro_torch.trees import detach


class Lifted(nn.Module):
    """A module whose state goes in and out: ``(input, state) -> (output, next_state)``.

    Args:
        core: Module called as ``core(input)``.
        mine: Places of its state.
        state: What each holds at the start, by its name.
    """

    def __init__(self, core: nn.Module, mine: list[Place], state: dict[str, Any]) -> None:
        super().__init__()
        self.core = core
        self._mine = [
            place._replace(container=None) for place in mine
        ]  # Which copies do not share.
        self._initial: Any = state

    def initial_state(self, rows: int | None = None) -> Any:
        """Return the state to start from, by the names of its places.

        Args:
            rows: Number of streams; ``None`` for a single one, without an axis of rows.

        Raises:
            SettingError: If the number of rows is no positive integer.
        """
        if rows is not None:
            rows = require_count(f"Lifted.initial_state(rows={spelled(rows)})", "rows", rows)
        lead = () if rows is None else (rows,)
        return optree.tree_map(
            lambda leaf: leaf.expand((*lead, *leaf.shape)).clone(), self._initial
        )

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        """Cast or move the initial state with the parameters, as `nn.Module.to` does."""
        self._initial = optree.tree_map(fn, self._initial)
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call]  # PyTorch's own has no types

    def forward(self, input: Any, state: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """Run one step, and leave the state that the module keeps as it was."""
        mine = [place.again(self.core) for place in self._mine]
        # The module may replace the dicts and lists that hold its state as well.
        outer = [place._replace(path=place.path[:1]).again(self.core) for place in mine]
        with restored([*outer, *mine]):
            for place in mine:
                given: Any = state[place.name]  # Cloned, as it may be changed in place.
                place.put(optree.tree_map(torch.clone, given))
            output = self._run(input, state)
            return output, {place.name: place.again(self.core).value for place in mine}

    def _run(self, input: Any, state: dict[str, Any]) -> Any:
        try:
            return self.core(input)
        except RuntimeError as error:
            both: Any = (self._initial, state)
            alone, given = map(optree.tree_leaves, both)
            if all(one.ndim == leaf.ndim for one, leaf in zip(alone, given, strict=True)):
                raise
            raise StructureError(
                f"Lifted({type(self.core).__name__}), streams: expected state whose first axis may "
                f"be that of the streams, got {first_words(error)} The state of nn.LSTM and nn.GRU "
                "has its layers there. Use cells, or pass state in and out with the batch first."
            ) from error


def lift_state(module: nn.Module, input: Any) -> Lifted:
    """Return a module with its state as an argument and a result, for `Online.for_module`.

    Recurrent state that a module keeps in attributes or buffers gets no gradient from one step to
    the next. Runs on an example show which tensors change, and on which of them later outputs
    depend; the module is left as it was. The state starts with what the module holds now, or with
    zeros where the module makes its state in its first forward pass. State that the module detaches
    or computes under `torch.no_grad` gets no gradient either way.

    Args:
        module: Module called as ``module(input)``.
        input: Example of the input of one step, of one stream.

    Raises:
        SettingError: If the module is no `nn.Module`, or a scripted, parallel or lazy one.
        StructureError: If the module keeps no state, or makes one in its first forward pass that is
            not zero or that has no place before.

    Example:
        >>> import torch
        >>> from uoro_torch import Online, lift_state
        >>> class Leaky(torch.nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.into, self.trace = torch.nn.Linear(2, 4), torch.zeros(4)
        ...     def forward(self, input):
        ...         self.trace = 0.9 * self.trace + torch.tanh(self.into(input))
        ...         return self.trace
        >>> model = lift_state(Leaky(), torch.randn(2))
        >>> online = Online.for_module(model, torch.nn.functional.mse_loss)
        >>> loss = online.step(torch.randn(2), torch.randn(4))
    """
    call = f"lift_state({type(module).__name__}, input)"
    require_kind(call, "module", module, nn.Module, "an nn.Module, made.")
    require_plain_module(call, module)
    before = {place.name: place for place in places(module, buffers=True)}
    with lent(module):
        first, _ = _run(module, input, {})
        made = {place.name: place.value for place in places(module, buffers=True)}
        whole = {name: value for name, value in made.items() if name in before}
        state = _within(whole, _found(module, input))
    if not state:
        raise StructureError(
            f"{call}: expected a module that keeps state between calls, got one whose output "
            "depends on none. Pass the module itself to Online.for_module."
        )
    if late := state.keys() - before.keys():
        raise StructureError(
            f"{call}: expected state in attributes that exist, got {sorted(late)}, made in the "
            "first forward pass. Set each to its initial value before lift_state."
        )
    initial = {name: _start(before[name].value, value) for name, value in state.items()}
    with lent(module):
        lifted, _ = _run(module, input, initial)
    if not same(lifted, first):
        raise StructureError(
            f"{call}: expected a state that starts with zeros, got another that the module makes "
            f"in its first forward pass, among {list(state)}. Set each to its initial value before "
            "lift_state."
        )
    return Lifted(module, [before[name] for name in initial], initial)


def _run(module: nn.Module, input: Any, given: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Return the output and what the module holds after a forward pass that begins with a state."""
    found = {place.name: place for place in places(module, buffers=True)}
    for name, value in given.items():
        found[name].put(optree.tree_map(torch.clone, value))
    # A copy of the input each time: a module that keeps it has changed.
    mine: Any = optree.tree_map(copied, input)
    with torch.enable_grad(), seeded(torch.zeros(())):
        output = module(mine)
    return detach(output), _holding(module)


def _holding(module: nn.Module) -> dict[str, Any]:
    """Return the tensors, and the tuples of nothing else, that a module holds."""
    found = {place.name: place.value for place in places(module, buffers=True)}
    return {
        name: value
        for name, value in found.items()
        if not isinstance(value, nn.Parameter)
        and 0 < len(tensors_in(value)) == len(optree.tree_leaves(value))
    }


def _found(module: nn.Module, input: Any) -> dict[str, Any]:
    """Return the state of a module that ran once: what it replaces, and outputs depend on."""
    once = _holding(module)
    versions = {name: [leaf._version for leaf in tensors_in(once[name])] for name in once}
    values: Any = optree.tree_map(torch.clone, detach(once))
    _, twice = _run(module, input, {})
    changed = {
        name: values[name]
        for name in twice
        if name in once
        and (
            twice[name] is not once[name]
            or versions[name] != [leaf._version for leaf in tensors_in(twice[name])]
        )
    }
    return {name: changed[name] for name in _lasting(module, input, changed)}


def _within(whole: dict[str, Any], state: dict[str, Any]) -> dict[str, Any]:
    """Return a state in the places of before, which may have held ``None`` in place of a list."""
    named = dict[str, Any]()
    for name, value in state.items():
        around = [each for each in whole if name.startswith(f"{each}.") and name not in whole]
        tree: Any = whole[around[-1]] if around else value
        fits = all(isinstance(leaf, Tensor) for leaf in optree.tree_leaves(tree))
        if around and fits:
            named[around[-1]] = optree.tree_map(torch.clone, detach(tree))
        else:
            named[name] = value
    return named


def _lasting(module: nn.Module, input: Any, changed: dict[str, Any]) -> list[str]:
    """Return the names of the tensors that outputs depend on, directly or by way of each other."""
    onto = dict[str, set[str]]()
    output, after = _run(module, input, changed)
    plain = {name: after[name] for name in changed}
    for name, value in changed.items():
        onto[name] = set()
        for fill in FILLS:
            other = optree.tree_map(partial(filled, fill=fill), value)
            try:
                result, after = _run(module, input, {**changed, name: other})
            except (RuntimeError, IndexError, ValueError):  # The module has looked at it.
                onto[name].add("")
                break
            onto[name] |= {each for each in plain if not same(after.get(each), plain[each])}
            onto[name] |= set() if same(result, output) else {""}
    lasting = {""}
    while more := {name for name in changed if onto[name] & lasting} - lasting:
        lasting |= more
    return [name for name in changed if name in lasting]


def _start(before: Any, value: Any) -> Any:
    """Return a state to start from: what was there if its form is the same, zeros otherwise."""
    if isinstance(before, (int, float)) and isinstance(value, Tensor):
        return torch.full_like(value, before)
    leaves, structure = optree.tree_flatten(value)
    tree: Any = before
    others, other = optree.tree_flatten(tree)
    shapes = [[getattr(leaf, "shape", None) for leaf in each] for each in (leaves, others)]
    if structure != other or shapes[0] != shapes[1]:
        return optree.tree_map(torch.zeros_like, value)
    return optree.tree_map(torch.clone, detach(tree))
