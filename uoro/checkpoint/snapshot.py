"""What a checkpoint holds: arrays by name, and a document of everything else."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True, eq=False)
class Snapshot:
    """A run at one moment, in memory.

    Attributes:
        arrays: Host arrays under flat names such as ``"params/0/gates"``.
        document: What JSON can say: step, settings, position of the stream, … Its floats come back
            exactly, infinities and NaN included; tuples come back as lists.
        widened: Filled by reading. The arrays whose dtype a file cannot say, such as bfloat16,
            come back as float32, which holds them exactly; here is the name of the dtype of each.
    """

    arrays: dict[str, np.ndarray[Any, Any]]
    document: dict[str, Any]
    widened: dict[str, str] = field(default_factory=dict)
