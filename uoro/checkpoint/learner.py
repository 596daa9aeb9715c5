"""A learner to a file and back, for loops of one's own."""

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
    """Write everything that determines what a learner does next, but the stream.

    Args:
        path: A file, replaced as a whole: whatever happens, the old one or the new one is there.
        learner: On any backend.
        note: What JSON can say: where the stream is, say.

    Raises:
        CheckpointError: If it cannot be written.
        StructureError: If the note is nothing that JSON can say.
    """
    saved = learner.export()
    document = {"kind": KIND, "learner": saved.counts, "note": note}
    write_checkpoint(path, Snapshot(saved.arrays, document))


def load_learner(path: str | os.PathLike[str], learner: Learner, *, inputs: Any = None) -> Any:
    """Make a learner what the saved one was: it goes on from there, bit for bit.

    A file that one backend wrote opens in another, which goes on to rounding error if both are
    given the same noise.

    Args:
        path: The file.
        learner: Of the same model, estimator and optimizer.
        inputs: One item, for estimators that store items, such as `RollingTruncated`.

    Returns:
        The note.

    Raises:
        CheckpointError: If it cannot be read, is damaged, or holds something else.
        StructureError: If it was another model, estimator or optimizer. Nothing has changed.

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
            f"load_learner({os.fspath(path)!r}): it holds a {document.get('kind', 'foreign thing')}"
            ", wanted is what save_learner wrote. A training run goes on by uoro train --resume."
        )
    learner.restore(Saved(snapshot.arrays, document["learner"]), inputs=inputs)
    return document.get("note")
