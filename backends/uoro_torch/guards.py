"""Checks of what `Online` is given."""

from __future__ import annotations

from typing import Any, NamedTuple

import optree
import torch
from torch import Tensor, nn

from uoro.arguments import leaf_name, require_count, require_like
from uoro.backend import Backend
from uoro.errors import SettingError, StructureError, spelled
from uoro.estimator import Estimator, ParallelEstimator
from uoro.estimators.auto import Auto
from uoro.estimators.chosen import as_estimator
from uoro.estimators.streams import Streams
from uoro.learning.update import span_of

NAMED = 4
"""Largest number of parameters that an error names."""


def require_params(params: Any) -> torch.device:
    """Return the device of the params, a dict of tensors.

    Raises:
        SettingError: If there are none, or a value is no tensor.
    """
    if (
        not isinstance(params, dict)
        or not params
        or not all(isinstance(param, Tensor) for param in params.values())
    ):
        raise SettingError(
            "Online(params=...): expected a dict of tensors to train, with at least one, got "
            f"{spelled(params)}. Try dict(module.named_parameters())."
        )
    device: torch.device = next(iter(params.values())).device
    return device


def require_plain_module(call: str, module: nn.Module) -> None:
    """Raise if a module cannot be run with other tensors for its parameters.

    Raises:
        SettingError: If it is scripted, parallel, or not initialised, naming the part.
    """
    parallel: Any = nn.DataParallel, nn.parallel.DistributedDataParallel
    for name, part in module.named_modules():
        place = f"{name or 'the module'}, a {type(part).__name__}"
        if isinstance(part, torch.jit.ScriptModule):
            raise SettingError(
                f"{call}: expected modules in Python, got {place}, made by torch.jit, whose "
                "parameters cannot be exchanged. Pass the module that was scripted or traced; "
                "torch.compile may take the place of torch.jit."
            )
        if isinstance(part, parallel):
            raise SettingError(
                f"{call}: expected a module on one device, got {place}. Pass its .module; for many "
                "processes, use estimator=DistributedStreams(...)."
            )
        held = [*part._parameters.values(), *part._buffers.values()]
        if any(tensor is not None and tensor.is_meta for tensor in held):
            raise SettingError(
                f"{call}: expected parameters with numbers, got {place}, on the device 'meta'. "
                "Call module.to_empty(device='cpu') and initialise it, or load_state_dict."
            )
        if any(nn.parameter.is_lazy(tensor) for tensor in held):
            raise SettingError(
                f"{call}: expected parameters with shapes, got {place}, not initialised. Call "
                "module(input, state) once before."
            )


def require_unpacked(call: str, item: tuple[Any, ...]) -> None:
    """Raise if an input or a target is, or holds, a packed sequence.

    Raises:
        StructureError: If it does.
    """
    packed = nn.utils.rnn.PackedSequence
    if all(isinstance(part, Tensor) for part in item):
        return
    tree: Any = item
    leaves = optree.tree_leaves(tree, is_leaf=lambda leaf: isinstance(leaf, packed))
    if any(isinstance(leaf, packed) for leaf in leaves):
        raise StructureError(
            f"{call}: expected the item of one step, got a PackedSequence. Try "
            "torch.nn.utils.rnn.pad_packed_sequence(...), and step through time."
        )


def require_state(call: str, state: Any) -> None:
    """Raise if a tree cannot be a state to start from.

    Raises:
        StructureError: If a leaf is no tensor.
        SettingError: If a leaf requires a gradient.
    """
    paths, leaves, _ = optree.tree_flatten_with_path(state)
    for path, leaf in zip(paths, leaves, strict=True):
        name = leaf_name("/".join(map(str, path)))
        if not isinstance(leaf, Tensor):
            raise StructureError(
                f"{call}: {name}: expected tensors, in tuples, lists or dicts, got "
                f"{spelled(leaf)}. Try torch.tensor(...)."
            )
        if leaf.requires_grad:
            raise SettingError(
                f"{call}: {name}: expected a tensor that requires no gradient, as the initial "
                "state is not trained, got one that does. Try .detach()."
            )


def require_fresh(
    backend: Backend, fresh: Any, initial: Any, *, call: str = "Online.reset(state=...)"
) -> None:
    """Raise if a state to start anew from is not like the initial one.

    Raises:
        StructureError: If structure, a shape or a dtype differs, or a leaf is no tensor.
        SettingError: If a leaf requires a gradient.
    """
    require_state(call, fresh)
    require_like(backend, fresh, initial, call=call, hint="Keep the initial form.")


def require_several(call: str, estimator: Estimator) -> ParallelEstimator:
    """Return an estimator as one of several streams.

    Raises:
        SettingError: If there is a single one.
    """
    if not isinstance(estimator, ParallelEstimator):
        raise SettingError(
            f"{call}: expected no mask for a single stream, got one. Leave it out, or use several "
            "streams."
        )
    return estimator


def require_one_item(estimator: Estimator) -> None:
    """Raise if an estimator takes several items a step.

    Raises:
        SettingError: If it does.
    """
    span = span_of(estimator)
    if span > 1:
        raise SettingError(
            "Online(estimator=...): expected an estimator that takes one item a step, got "
            f"{spelled(estimator)}, which takes {span}. Try RollingTruncated({span}), uoro.Learner "
            f"or PyTorch alone: sum {span} losses, call backward(), and detach the state."
        )


def require_mask(mask: Any, count: int, device: str) -> Tensor:
    """Return a mask as a tensor of booleans, one for each stream.

    Raises:
        StructureError: If the mask is anything else.
    """
    try:
        made = torch.as_tensor(mask, device=device).bool()
    except (TypeError, ValueError, RuntimeError, OverflowError):
        made = torch.empty(0)
    if made.shape != (count,):
        raise StructureError(
            f"Online.reset(mask): expected a boolean for each of {count} streams, true where one "
            f"starts anew, got {spelled(mask)}. Try torch.tensor([...])."
        )
    return made


def require_streams(
    streams: int | None, estimator: Estimator | Auto | str | None
) -> ParallelEstimator | None:
    """Return the estimator of several streams; ``None`` for a single stream.

    Raises:
        SettingError: If the number of streams is no positive integer, or not the estimator's.
    """
    if streams is not None:
        call = f"Online.for_module(streams={spelled(streams)})"
        streams = require_count(call, "count of streams", streams)
    if not isinstance(estimator, ParallelEstimator):
        if streams is None:
            return None
        return Streams(as_estimator("Online.for_module(estimator=...)", estimator), streams)
    if streams not in (None, estimator.count):
        raise SettingError(
            f"Online.for_module(streams={streams}, estimator=...): expected the estimator's "
            f"number of streams, {estimator.count}, got {streams}. Leave streams out."
        )
    return estimator


def require_saved(call: str, saved: Any) -> dict[str, Any]:
    """Return what `Online.state_dict` returned, under its present keys.

    Raises:
        StructureError: If a key is missing.
    """
    if isinstance(saved, dict) and "memory" in saved:  # The key of "carry" before 0.2.
        saved = {"carry": saved["memory"], **saved}
    if not isinstance(saved, dict) or not saved.keys() >= {"steps", "seed", "state", "carry"}:
        raise StructureError(
            f"{call}: expected what state_dict() returned, got {spelled(saved)}. Pass its result "
            "as it is."
        )
    return saved


def filled(tree: Any, leaves: Any, what: str) -> Any:
    """Return a tree with saved leaves in the places of its own, on their devices, in their dtypes.

    Args:
        tree: Tree with the structure and the shapes expected.
        leaves: List of saved tensors.
        what: Name of the tree in an error.

    Raises:
        StructureError: If the leaves are not tensors of these shapes.
    """
    mine, structure = optree.tree_flatten(tree)
    shapes = [tuple(leaf.shape) for leaf in mine]
    tensors = isinstance(leaves, list) and all(isinstance(leaf, Tensor) for leaf in leaves)
    if not tensors or [tuple(leaf.shape) for leaf in leaves] != shapes:
        got = f"shapes {[tuple(leaf.shape) for leaf in leaves]}" if tensors else spelled(leaves)
        raise StructureError(
            f"Online.load_state_dict(saved): {what}: expected tensors of shapes {shapes}, got "
            f"{got}. Was it saved from another model or estimator? Build the same ones."
        )
    return optree.tree_unflatten(
        structure,
        [new.to(old.device, old.dtype) for old, new in zip(mine, leaves, strict=True)],
    )


class Look(NamedTuple):
    """What a parameter looks like, in words."""

    number: int
    shape: str
    dtype: str
    device: str


def looks(params: dict[str, Tensor], *, numbered: bool = False) -> dict[str, Look]:
    """Return what parameters look like.

    Args:
        params: Tensors by name.
        numbered: Whether to tell a tensor from others that look the same.
    """
    return {
        name: Look(id(p) if numbered else 0, str(tuple(p.shape)), str(p.dtype), str(p.device))
        for name, p in params.items()
    }


def differences(before: dict[str, Look], now: dict[str, Look]) -> str:
    """Return how parameters that require gradients differ from those before, by name."""
    told = [f"{name!r} without a gradient, or gone" for name in before if name not in now]
    for name, look in now.items():
        was = before.get(name)
        if was is None:
            told.append(f"{name!r} besides")
        elif look[1:] != was[1:]:
            pairs = zip(Look._fields[1:], was[1:], look[1:], strict=True)
            parts = [f"{what} {new} in place of {old}" for what, old, new in pairs if new != old]
            told.append(f"{name!r} of {', '.join(parts)}")
        elif look != was:
            told.append(f"{name!r} replaced by another tensor")
    if len(told) > NAMED:
        told[NAMED:] = [f"{len(told) - NAMED} more"]
    return ", ".join(told) or "them in another order"
