"""The metrics of a run: one line of JSON for each record, whole or not at all."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from uoro.errors import CheckpointError, StructureError
from uoro.files.atomic import sync_folder, write_atomically
from uoro.files.numbers import floats, plain
from uoro.files.results import finite
from uoro.learning.log import LOGGER


class MetricsLog:
    """A file to which records are appended, one line of JSON each.

    `write` hands a line to the operating system, so that it outlives the process. A line that
    cannot be written, as on a full disk, waits in memory and is written before the next one.

    Args:
        path: File in an existing folder; the first record creates it. A half-written last line is
            overwritten.

    Attributes:
        failures: Number of failed attempts to write.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.failures = 0
        self._waiting: list[tuple[dict[str, Any], bytes]] = []
        self._failing = False
        self._end: int | None = None

    @property
    def waiting(self) -> int:
        """Number of lines in memory that could not be written."""
        return len(self._waiting)

    def write(self, record: dict[str, Any]) -> None:
        """Append a record.

        Args:
            record: Anything JSON holds, and numbers of arrays; NaN and infinities become strings.

        Raises:
            StructureError: If JSON cannot hold the record.
        """
        try:
            numbers = plain(record)
            line = json.dumps(finite(numbers), ensure_ascii=False, allow_nan=False)
            self._waiting.append((numbers, line.encode() + b"\n"))
        except (TypeError, ValueError) as error:
            raise StructureError(
                "MetricsLog.write(record): expected numbers, text, or lists and dictionaries of "
                f"those, got {record!r}: {error}."
            ) from error
        self.flush()

    def flush(self) -> bool:
        """Write the lines in memory; return whether none is left."""
        if not self._waiting:
            return True
        try:
            self._append(b"".join(line for _, line in self._waiting))
        except OSError as error:
            self.failures += 1
            if not self._failing:
                LOGGER.warning(
                    "%s cannot be written: %s. Its lines are kept in memory until they can.",
                    self.path,
                    error.strerror or error,
                )
            self._failing = True
            return False
        if self._failing:
            LOGGER.warning("%s is written again: no line is lost.", self.path)
        self._failing = False
        self._waiting.clear()
        return True

    def truncate_after(self, step: int) -> None:
        """Drop the records after a step, and a half-written last line, atomically.

        Called when a run resumes from a checkpoint of that step. Lines without a step stay; lines
        with ``"partial": true``, written when a run ended between two lines, are dropped.

        Args:
            step: ``"step"`` of the last record to keep.

        Raises:
            CheckpointError: If the file is damaged elsewhere, or cannot be written.
        """
        call = f"MetricsLog({str(self.path)!r}).truncate_after({step})"
        self._waiting = [kept for kept in self._waiting if _is_by(kept[0], step)]
        written = _read(call, self.path)
        if written is None:
            return
        kept = b"".join(line.text for line in _lines(call, written) if _is_by(line.record, step))
        try:
            if kept != written:
                write_atomically(self.path, [kept])
                sync_folder(self.path.parent)
        except OSError as error:
            raise CheckpointError(
                f"{call}: it cannot be written: {error.strerror or error}. Make room."
            ) from error
        self._end = len(kept)

    def _append(self, lines: bytes) -> None:
        """Write after the last whole line, wherever an earlier attempt stopped."""
        mode = os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0)
        handle = os.open(self.path, mode, 0o666)
        try:
            size = os.fstat(handle).st_size
            if self._end is None:
                self._end = _last_line_end(handle, size)
            end = min(self._end, size)
            if size > end:
                os.ftruncate(handle, end)
            os.lseek(handle, end, os.SEEK_SET)
            left = memoryview(lines)
            while left:
                left = left[os.write(handle, left) :]
            self._end = end + len(lines)
        finally:
            os.close(handle)


def read_metrics(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Read the records of a run; a half-written last line is skipped.

    Args:
        path: File of a `MetricsLog`, which may be at work.

    Returns:
        Records in the order of the file, with NaN and infinities as floats.

    Raises:
        CheckpointError: If there is no such file, or a line before the last is damaged.
    """
    call = f"read_metrics({os.fspath(path)!r})"
    written = _read(call, Path(path))
    if written is None:
        raise CheckpointError(f"{call}: there is no such file. Give the metrics.jsonl of a run.")
    return [floats(_renewed(line.record)) for line in _lines(call, written)]


def _renewed(record: dict[str, Any]) -> dict[str, Any]:
    """Rename the throughput, which version 0.1 called ``rate``."""
    names = {"rate": "throughput"}
    return {names.get(name, name): value for name, value in record.items()}


class _Line(NamedTuple):
    text: bytes
    record: dict[str, Any]


def _lines(call: str, written: bytes) -> Iterator[_Line]:
    """Iterate over the lines; a torn last one is skipped."""
    lines = io.BytesIO(written).readlines()
    for number, text in enumerate(lines, start=1):
        if not text.strip():
            continue
        try:
            record = json.loads(text)
            if not isinstance(record, dict):
                raise ValueError("expected an object")
            if not text.endswith(b"\n"):
                raise ValueError("expected a line end")
        except (ValueError, RecursionError) as error:
            if number == len(lines):
                return
            raise CheckpointError(
                f"{call}: line {number} is damaged: {error}. Remove that line."
            ) from error
        yield _Line(text, record)


def _read(call: str, path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CheckpointError(
            f"{call}: it cannot be read: {error.strerror or error}. Give a run's metrics."
        ) from error


def _last_line_end(handle: int, size: int) -> int:
    """Return the end of the last whole line, searched backwards."""
    end = size
    while end > 0:
        begin = max(0, end - 4096)
        os.lseek(handle, begin, os.SEEK_SET)
        found = os.read(handle, end - begin).rfind(b"\n")
        if found >= 0:
            return begin + found + 1
        end = begin
    return 0


def _is_by(record: dict[str, Any], step: int) -> bool:
    at = record.get("step")
    if record.get("partial") is True:
        return False
    return not isinstance(at, (int, float)) or at <= step
