"""Parallel streams distributed over the processes of a group."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, cast

import optree
import torch
import torch.distributed as dist
from torch import Tensor

from uoro.arguments import leaf_name, require_stack
from uoro.backend import Backend, Distribution, Tree
from uoro.dynamics import Dynamics
from uoro.errors import SettingError, StructureError
from uoro.estimator import Sampler
from uoro.estimators.streams import Streams
from uoro_torch.trees import as_real, widen


@dataclass(frozen=True)
class DistributedStreams(Streams):
    """Run B streams on several processes, with the results of `Streams` up to rounding.

    Each process runs ``B / processes`` of the streams, those numbered in `rows`: it stacks their
    states, reads their items, and keeps their pairs (s̃, θ̃, the two vectors that UORO carries),
    which are never sent. Loss and gradient are averaged over all processes at each step, so that
    every process makes the same update of its own copy of the params.

    The signs are those of `Streams` with the same seed; each process keeps its share of them.

    Every process must run every step; one that fails leaves the others waiting. Each process
    resets its own streams.

    Args:
        estimator: Estimator to run on each stream.
        count: B, a multiple of the number of processes.
        group: Group of processes; all of them by default. The params must be on a device that its
            backend serves: any for ``gloo``, a GPU for ``nccl``.

    Attributes:
        rows: Range of the streams that this process runs.

    Raises:
        SettingError: If there is no group, this process is not in it, the count is not a multiple
            of the number of processes, or the estimator is none.

    Example:
        >>> import torch, torch.distributed as dist
        >>> from uoro import UORO
        >>> from uoro_torch import DistributedStreams, Online
        >>> dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
        >>> estimator = DistributedStreams(UORO(), 8)
        >>> estimator.rows
        range(0, 8)
        >>> online = Online.for_module(
        ...     torch.nn.GRUCell(2, 4), torch.nn.functional.mse_loss, estimator=estimator)
        >>> mine = len(estimator.rows)
        >>> loss = online.step(torch.randn(mine, 2), torch.randn(mine, 4))
        >>> dist.destroy_process_group()
    """

    group: dist.ProcessGroup | None = None
    _compared: list[Any] = field(default_factory=list, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        call = self._call
        if not (dist.is_available() and dist.is_initialized()):
            raise SettingError(
                f"{call}: expected a group of processes, got none. Start them with torchrun, and "
                "call torch.distributed.init_process_group(...) in each of them first."
            )
        if dist.get_rank(self.group) < 0:
            raise SettingError(
                f"{call}: group: expected a group of this process, got one without it. Build no "
                "streams in this process, or pass a group that it is in."
            )
        if self.count % self._processes:
            raise SettingError(
                f"{call}: expected a multiple of the number of processes, {self._processes}, got "
                f"{self.count}. Try count={self._processes * -(-self.count // self._processes)}."
            )

    @property
    def rows(self) -> range:
        """Return the numbers of the streams that run in this process."""
        here, rank = self.count // self._processes, dist.get_rank(self.group)
        return range(rank * here, (rank + 1) * here)

    @cached_property
    def _processes(self) -> int:
        return dist.get_world_size(self.group)

    def init(
        self, dynamics: Dynamics[Any, Any, Any], params: Any, state: Any, *, inputs: Any = None
    ) -> Any:
        """Return a carry for each stream of this process; see `Streams.init`.

        The first call, which every process must make, compares the params.

        Raises:
            StructureError: If a stack does not have one row for each stream of this process, or
                the params are not the same in all processes.
        """
        carry = super().init(dynamics, params, state, inputs=inputs)
        if not self._compared:
            call = f"{self._call}.init(params)"
            self.require_same(params, call, "Start all processes with the same")
            self._compared.append(call)
        return carry

    def draw(self, sampler: Sampler, state: Any) -> Any:
        """Draw as `Streams` does for all streams, and keep the rows of this process."""

        def of_all(leaf: Tensor) -> Tensor:
            return leaf[:1].expand(self.count, *leaf.shape[1:])

        def mine(leaf: Tensor) -> Tensor:
            return leaf[self.rows.start : self.rows.stop]

        def keep(
            like: Tree, distribution: Distribution, batch: tuple[int, ...] = (), stacked: int = 0
        ) -> Tree:
            some: Any = like
            whole: Any = optree.tree_map(of_all, some)
            drawn: Any = sampler(whole, distribution, batch, stacked)
            kept: Any = optree.tree_map(mine, drawn)
            return cast(Tree, kept)

        return super().draw(keep, state)

    def require_same(self, tree: Any, call: str, hint: str) -> None:
        """Check that tensors are the same, bit for bit, in all processes.

        Every process must make this call.

        Args:
            tree: Tensors.
            call: The call, as the user wrote it.
            hint: The way out, without a full stop; the message adds how to broadcast.

        Raises:
            StructureError: In every process, if a leaf differs, naming it.
        """
        paths, leaves, _ = optree.tree_flatten_with_path(tree)
        names = [leaf_name("/".join(map(str, path))) for path in paths]
        if not leaves:
            return
        device = leaves[0].device
        shapes = [
            (name, tuple(x.shape), str(x.dtype)) for name, x in zip(names, leaves, strict=True)
        ]
        if not all(self._agree([repr((self.count, shapes)).encode()], device)):
            raise StructureError(
                f"{call}: expected the same count, and leaves of the same names, shapes and "
                f"dtypes, in all processes, got others than the {self.count} streams and {shapes} "
                "of this one. Build the same model in each."
            )
        same = self._agree([_content(leaf) for leaf in leaves], device)
        others = [name for name, agreed in zip(names, same, strict=True) if not agreed]
        if others:
            raise StructureError(
                f"{call}: expected the same numbers in all processes, got others in "
                f"{', '.join(others)}. {hint}, by one seed for all or "
                "torch.distributed.broadcast(tensor, src=0)."
            )

    def _agree(self, contents: list[bytes], device: torch.device) -> list[bool]:
        """Return for each content whether all processes have the same."""
        digests = [hashlib.blake2b(content, digest_size=8).digest() for content in contents]
        mine = torch.tensor([int.from_bytes(d, signed=True) for d in digests], device=device)
        everyone = [torch.empty_like(mine) for _ in range(self._processes)]
        dist.all_gather(everyone, mine, group=self.group)
        agreed: list[bool] = (torch.stack(everyone) == mine).all(0).tolist()
        return agreed

    def _average(self, tree: Any) -> Any:
        """Return the average of a tree over the processes, by one exchange for each dtype."""
        leaves, structure = optree.tree_flatten(tree)
        numbers = [as_real(widen(leaf)) for leaf in leaves]
        averaged = list(leaves)
        for kind in dict.fromkeys((x.dtype, x.device) for x in numbers):
            places = [i for i, x in enumerate(numbers) if (x.dtype, x.device) == kind]
            parts = [numbers[i].reshape(-1) for i in places]
            flat = torch.cat(parts)
            dist.all_reduce(flat, group=self.group)
            means = torch.split_with_sizes(flat / self._processes, [len(part) for part in parts])
            for i, mean in zip(places, means, strict=True):
                averaged[i] = torch.empty_like(leaves[i])
                as_real(averaged[i]).copy_(mean.reshape(numbers[i].shape))
        return optree.tree_unflatten(structure, averaged)

    def _add(self, tree: Any) -> Any:
        # As DistributedDataParallel does: what each process asks for is averaged.
        return self._average(tree)

    def _require_stack(self, backend: Backend, tree: Any, what: str) -> None:
        require_stack(backend, tree, len(self.rows), f"{self._call}.{what}, of {self.rows}")


def _content(leaf: Tensor) -> bytes:
    """Return the bytes of a tensor."""
    numbers = as_real(leaf.detach()).cpu().contiguous().reshape(-1)
    return numbers.view(torch.uint8).numpy().tobytes()
