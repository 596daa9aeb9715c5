"""Files as a source of symbols."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import sleep

from uoro.arguments import require_choice, require_count, require_list, require_path
from uoro.errors import SettingError, StreamError
from uoro.files.places import BEGINNING, read_block
from uoro.tasks.alphabet import (
    Alphabet,
    Codes,
    Encoding,
    Malformed,
    decode,
    describe,
    ends_of,
    escaped,
    find_codes,
)
from uoro.tasks.files import FileReader
from uoro.tasks.growing import GrowingStream
from uoro.tasks.pairs import PairStream

FOUND = (
    "It was not there when the file was opened. The file was changed; open it anew, or give an "
    "alphabet."
)
GIVEN = (
    "It is not in the alphabet: give one that has it, or leave out what is malformed: "
    "malformed='skip'."
)


@dataclass(frozen=True)
class Text:
    """Files read one after the other, as numbered symbols.

    Args:
        paths: The files.
        symbols: The alphabet.
        hint: What to do about what is not in the alphabet, for the error.
        laps: How many times the files are gone through; without an end if not given.
        follow: Whether to wait for more at the end of the one file.
    """

    paths: tuple[Path, ...]
    symbols: Alphabet
    hint: str
    laps: int | None = None
    follow: bool = False

    @classmethod
    def open(
        cls,
        paths: Sequence[str | Path],
        *,
        encoding: Encoding = "utf-8",
        alphabet: str | None = None,
        malformed: Malformed = "stop",
        laps: int | None = None,
        follow: bool = False,
    ) -> Text:
        """Look at the files: read them once, in constant memory, if no alphabet is given.

        Args:
            paths: The files.
            encoding: ``"utf-8"``, a symbol a character; or ``"bytes"``, a symbol a byte.
            alphabet: All the symbols in order, or the name ``"bytes"`` or ``"ascii"``. If not
                given, what occurs, in the order of the codes.
            malformed: What to do with a character that is not in the alphabet, or a byte that is
                no UTF-8: ``"stop"`` there, or ``"skip"`` it and count it.
            laps: How many times the files are gone through; without an end if not given.
            follow: Whether to wait for more at the end of the file, of which there is one then.
                Its alphabet must be given, unless it is that of bytes.

        Raises:
            StreamError: If a file is missing or cannot be read; and where the alphabet has to be
                found, if one is not UTF-8, or if all of them together hold fewer than two
                characters or only one kind.
            SettingError: If the choices do not go together, or there is no such alphabet.
        """
        given = require_list("Text.open(paths)", "paths", paths)
        files = tuple(require_path("Text.open(paths)", "path", path) for path in given)
        call = f"Text.open({', '.join(map(str, files))!r})"
        if laps is not None:
            require_count(f"{call[:-1]}, laps={laps!r})", "number of laps", laps)
        if follow and (len(files) != 1 or laps is not None):
            raise SettingError(
                f"{call}: one file can be followed, without an end. Give one file and no laps, or "
                "leave out follow."
            )
        if alphabet is not None or follow:
            symbols = Alphabet.given(call, alphabet, encoding, malformed)
            for path in files:
                read_block(call, path, 0, 0)
            return cls(files, symbols, GIVEN, laps, follow)
        require_choice(call, "encoding", encoding, ("utf-8", "bytes"))
        require_choice(call, "malformed", malformed, ("stop", "skip"))
        codes, length = find_codes(_read_codes(files, encoding, malformed))
        if length < 2:
            raise StreamError(
                f"{call}: it holds {length} characters; predicting the next one needs at least two."
            )
        if len(codes) < 2:
            raise StreamError(
                f"{call}: it holds one character, {chr(int(codes[0]))!r}, again and again; there "
                "is nothing to predict."
            )
        return cls(files, Alphabet(codes, encoding, malformed), FOUND, laps)

    @property
    def codes(self) -> Codes:
        """The code points or bytes of the alphabet."""
        return self.symbols.codes

    @property
    def alphabet(self) -> str:
        """The symbols in order; bytes are shown as Latin-1."""
        return self.symbols.symbols

    @property
    def entropy_rate(self) -> None:
        """Nobody knows it."""
        return

    def stream(self, seed: int = 0) -> PairStream | GrowingStream:
        """Make the stream of ``{"symbol", "target"}`` from the beginning.

        Args:
            seed: Not used: a text is what it is.
        """
        reader = FileReader(self.paths, self.symbols, self.hint, laps=self.laps, follow=self.follow)
        return GrowingStream(reader, sleep) if self.follow else PairStream(reader)


def _read_codes(paths: Sequence[Path], encoding: Encoding, malformed: Malformed) -> Iterator[Codes]:
    for path in paths:
        call, place, ended = f"Text.open({str(path)!r})", BEGINNING, False
        while not ended:
            block = read_block(call, path, place.byte, place.checksum)
            codes, consumed = decode(block.data, encoding, final=block.ends)
            broken = escaped(codes)
            if broken.any() and malformed == "stop":
                first = int(broken.argmax())
                byte = place.byte + int(ends_of(codes, consumed)[first]) - 1
                raise StreamError(
                    f"{call}: byte {byte} is {describe(int(codes[first]), encoding)}. Read it as "
                    "bytes: encoding='bytes'; or leave such bytes out: malformed='skip'."
                )
            yield codes[~broken]
            place, ended = place.on(block, consumed, 0), block.ends
