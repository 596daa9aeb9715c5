"""The content of a checkpoint: arrays by name, and a document of everything else."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True, eq=False)
class Snapshot:
    """The content of a checkpoint in memory.

    Attributes:
        arrays: Host arrays under flat names such as ``"params/0/gates"``.
        document: Values that JSON can write: step, settings, position of the stream, …. Floats come
            back exactly, infinities and NaN included; tuples come back as lists.
        widened: Original dtypes by name of the arrays that were read as float32, because a file
            cannot hold a dtype such as bfloat16; float32 holds the numbers exactly.
    """

    arrays: dict[str, np.ndarray[Any, Any]]
    document: dict[str, Any]
    widened: dict[str, str] = field(default_factory=dict)
