"""Small models step on one thread: handing a small product to many costs more than it takes."""

from __future__ import annotations

from typing import Any

import optree
import torch
from torch import Tensor

from uoro.estimator import Estimator, ParallelEstimator
from uoro.estimators import RTRL, KroneckerSum

LARGEST = 2**18
"""Largest number of multiplications in a product of a step that is done on one thread."""


class Threads:
    """Say whether a step runs on one thread, and set the number of threads and set it back.

    The largest product of a step has as many multiplications as there are parameters, times the
    streams, and times the entries of the state where an estimator pulls back all of them at once.
    A model on another device than the CPU, and a larger one, keep the number of threads.

    Args:
        params: Parameters.
        state: Hidden state, of all streams.
        estimator: The estimator.
    """

    def __init__(self, params: dict[str, Tensor], state: Any, estimator: Estimator) -> None:
        rows = len(estimator.rows) if isinstance(estimator, ParallelEstimator) else 1
        inner: Any = getattr(estimator, "estimator", estimator)
        tangents = getattr(inner, "rank", 1)
        if isinstance(inner, (RTRL, KroneckerSum)):
            tangents = sum(leaf.numel() for leaf in optree.tree_leaves(state)) // max(rows, 1)
        products = rows * max(tangents, 1) * sum(param.numel() for param in params.values())
        on_cpu = all(param.device.type == "cpu" for param in params.values())
        self.single = on_cpu and products <= LARGEST

    def narrow(self) -> int:
        """Set one thread where that pays, and return how many there were; 0 if none is set."""
        before = torch.get_num_threads() if self.single else 1
        if before == 1:
            return 0
        torch.set_num_threads(1)
        return before


def widen(before: int) -> None:
    """Set the number of threads that `Threads.narrow` returned."""
    if before:
        torch.set_num_threads(before)
