"""A checkpoint as one file: plain safetensors, which many programs read, with a checksum."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path
from typing import Any, BinaryIO

from safetensors import SafetensorError
from safetensors import numpy as safetensors_numpy

from uoro.checkpoint.arrays import restore, store
from uoro.checkpoint.header import (
    BEGINNING,
    DIGITS,
    LONGEST,
    PLACE,
    ZEROS,
    Damage,
    read_header,
    read_metadata,
    spell_metadata,
)
from uoro.checkpoint.snapshot import Snapshot
from uoro.errors import CheckpointError, StructureError
from uoro.files.atomic import sync_folder, write_atomically


def write_checkpoint(path: str | os.PathLike[str], snapshot: Snapshot) -> None:
    """Write a checkpoint, whole or not at all.

    When the call returns, the file is on the disk. When the call raises, a file that was there is
    unchanged, and nothing is left beside it.

    Args:
        path: File in an existing folder.
        snapshot: Arrays and document.

    Raises:
        StructureError: If an array or a part of the document cannot be written.
        CheckpointError: If the system refuses, for example because the disk is full.
    """
    path = Path(path)
    call = f"write_checkpoint({str(path)!r})"
    written = _serialize(call, snapshot)
    digest = _digest(written).encode()
    view = memoryview(written)
    try:
        write_atomically(path, [view[:PLACE], digest, view[PLACE + DIGITS :]])
    except OSError as error:
        raise CheckpointError(
            f"{call}: expected a file that can be written, got: {error.strerror or error}. A file "
            "that was there is unchanged; free space on the disk, or try another folder."
        ) from error
    try:
        sync_folder(path.parent)
    except OSError as error:
        raise CheckpointError(
            f"{call}: the file is written, but its folder could not be brought to the disk: "
            f"{error.strerror or error}. A power cut may lose the file; check the disk."
        ) from error


def read_checkpoint(path: str | os.PathLike[str]) -> Snapshot:
    """Read a checkpoint, if every byte is as it was written.

    Args:
        path: File that `write_checkpoint` wrote.

    Returns:
        Arrays and document as written, bit for bit; arrays of a dtype that a file cannot hold come
        back as float32.

    Raises:
        CheckpointError: If the file is missing, damaged, of a newer format, or no checkpoint.
    """
    call = f"read_checkpoint({os.fspath(path)!r})"
    try:
        # A pipe would be waited for without an end.
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise Damage("it is no file. Give the path of one that write_checkpoint wrote")
        with open(path, "rb") as file:
            return _read(file)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise CheckpointError(
            f"{call}: it cannot be read: {reason}. Give the path of a file that "
            "write_checkpoint wrote."
        ) from error
    except MemoryError as error:
        raise CheckpointError(f"{call}: it does not fit into memory. Free some.") from error
    except Damage as error:
        raise CheckpointError(f"{call}: {error}.") from error


def _serialize(call: str, snapshot: Snapshot) -> bytes:
    """Return the bytes of the file, with zeros in the place of the checksum."""
    _require_json(call, snapshot.document, "document")
    stored = store(call, snapshot.arrays)
    try:
        metadata = {"uoro": spell_metadata(snapshot.document, stored.dtypes)}
    except (ValueError, RecursionError) as error:
        raise StructureError(f"{call}: the document cannot be written as JSON: {error}.") from error
    written = safetensors_numpy.save(stored.arrays, metadata=metadata)
    if int.from_bytes(written[:8], "little") > LONGEST:
        raise StructureError(
            f"{call}: document and names take more than {LONGEST:,} bytes. "
            "Put long data into arrays."
        )
    if written[8 : PLACE + DIGITS] != BEGINNING + ZEROS:
        raise CheckpointError(
            f"{call}: this version of safetensors orders its header in another way. "
            "Install the version that constraints.txt names."
        )
    return written


def _read(file: BinaryIO) -> Snapshot:
    size = os.fstat(file.fileno()).st_size
    length = file.read(8)
    # No more than the file has, nor than a header may.
    wanted = min(int.from_bytes(length, "little"), size, LONGEST)
    header = file.read(wanted)
    checksum, text = read_header(length, header, size)
    # Again from the beginning: to join the parts would take the room twice.
    file.seek(0)
    written = file.read(size)
    if len(written) != size:
        raise Damage("it changed while it was read. Read it again")
    found = _digest(written)
    if found != checksum:
        raise Damage(
            f"its bytes are not those that were written: their checksum is {found[:12]}…, the "
            f"file says {checksum[:12]}…. It is damaged: take an earlier one"
        )
    metadata = read_metadata(text)
    try:
        arrays, widened = restore(safetensors_numpy.load(written), metadata.dtypes)
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise Damage(
            f"its arrays cannot be read ({error}). It was made by something else"
        ) from error
    return Snapshot(arrays, metadata.document, widened)


def _digest(written: bytes) -> str:
    """Return the checksum of a file, computed with zeros in its place."""
    view = memoryview(written)
    checksum = hashlib.blake2b(view[:PLACE], digest_size=DIGITS // 2)
    checksum.update(ZEROS)
    checksum.update(view[PLACE + DIGITS :])
    return checksum.hexdigest()


def _require_json(call: str, value: Any, where: str) -> None:
    """Check that a value comes back from JSON as it was, except that tuples become lists."""
    try:
        if isinstance(value, dict):
            for name, item in value.items():
                if not isinstance(name, str):
                    raise StructureError(f"{call}: {where}: expected text as a key, got {name!r}.")
                _require_json(call, item, f"{where}[{name!r}]")
        elif isinstance(value, (list, tuple)):
            for i, item in enumerate(value):
                _require_json(call, item, f"{where}[{i}]")
        elif value is not None and not isinstance(value, (str, bool, int, float)):
            raise StructureError(
                f"{call}: {where}: expected a value that JSON can write, got a "
                f"{type(value).__name__}. Try value.item() for a number of an array."
            )
    except RecursionError as error:
        raise StructureError(f"{call}: the document is nested too deeply, or in itself.") from error
