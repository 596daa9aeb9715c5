"""A learner to a file and back, for your own training loop."""

from __future__ import annotations

import os
from typing import Any

from uoro.checkpoint.file import read_checkpoint, write_checkpoint
from uoro.checkpoint.snapshot import Snapshot
from uoro.errors import CheckpointError
from uoro.learning.learner import Learner
from uoro.learning.saved import Saved

KIND = "uoro learner"


def save_learner(path: str | os.PathLike[str], learner: Learner, *, note: Any = None) -> None:
    """Write everything that determines what a learner does next, except the stream.

    Args:
        path: File, replaced whole or not at all.
        learner: Learner on any backend.
        note: Any value that JSON can write, such as the position of the stream.

    Raises:
        CheckpointError: If the file cannot be written.
        StructureError: If JSON cannot write the note.
    """
    saved = learner.export()
    document = {"kind": KIND, "learner": saved.counts, "note": note}
    write_checkpoint(path, Snapshot(saved.arrays, document))


def load_learner(path: str | os.PathLike[str], learner: Learner, *, inputs: Any = None) -> Any:
    """Load a saved learner into another one, which continues bit for bit.

    A file that one backend wrote loads in another, which continues up to rounding error if both
    get the same signs. Files of version 0.1 load too.

    Args:
        path: File that `save_learner` wrote.
        learner: Learner of the same model, estimator and optimizer.
        inputs: One item of the stream, required by estimators that store items, such as
            `RollingTruncated`.

    Returns:
        The note.

    Raises:
        CheckpointError: If the file cannot be read, is damaged, or holds no learner.
        StructureError: If model, estimator or optimizer differ; the learner is unchanged.

    Example:
        >>> import tempfile
        >>> from itertools import repeat
        >>> from pathlib import Path
        >>> from uoro import SGD, UORO, Learner, load_backend
        >>> from uoro.checkpoint import load_learner, save_learner
        >>> backend = load_backend("autograd")
        >>> xp = backend.xp
        >>> dynamics = backend.dynamics(lambda theta, s, x: (theta * s + x, xp.sum(theta * s) ** 2))
        >>> def make():
        ...     return Learner(dynamics, UORO(), SGD(0.01), xp.array(0.5), xp.zeros(3))
        >>> one, other = make(), make()
        >>> _ = one.run(repeat(1.0), steps=10)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_learner(Path(folder, "learner.safetensors"), one, note={"items": 10})
        ...     load_learner(Path(folder, "learner.safetensors"), other)
        {'items': 10}
        >>> one.run(repeat(1.0), steps=10) == other.run(repeat(1.0), steps=10)
        True
    """
    snapshot = read_checkpoint(path)
    document = snapshot.document
    if document.get("kind") != KIND or "learner" not in document:
        raise CheckpointError(
            f"load_learner({os.fspath(path)!r}): expected a file of save_learner, got a "
            f"{document.get('kind', 'foreign file')}. Resume a training run by uoro train --resume."
        )
    learner.restore(Saved(snapshot.arrays, document["learner"]), inputs=inputs)
    return document.get("note")
