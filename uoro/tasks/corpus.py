"""Files as a source of symbols."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import sleep

from uoro.arguments import require_choice, require_count, require_list, require_path
from uoro.errors import SettingError, StreamError
from uoro.files.content import Content, behind_mark, other_encoding, spell_file, spell_stranger
from uoro.files.places import BEGINNING
from uoro.learning.log import LOGGER
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
    "It was not there when the file was opened. The file was changed; open it anew, or pass an "
    "alphabet."
)
GIVEN = (
    "It is not in the alphabet: pass an alphabet that has it, or leave out what is malformed: "
    "malformed='skip'."
)

TORN = "Text holds none; the file may be binary or torn. "
READ = "Read it as bytes: encoding='bytes'; or leave such bytes out: malformed='skip'."
OTHERWISE = f"Or r{READ[1:]}"
OTHER = "If the text is in another encoding, convert it to UTF-8 with iconv."
MANY = 0.01
"""Share of characters left out from which on it is said."""


@dataclass(frozen=True)
class Text:
    """Text files as a source of numbered symbols.

    Args:
        paths: Paths of the files.
        symbols: The alphabet.
        hint: Way out of a symbol outside the alphabet, for the error.
        laps: Number of passes over the files; default endless.
        follow: Whether to wait for more at the end of the file, a single one; default no.
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
        """Open files; without an alphabet, read them once, in constant memory, to find it.

        Args:
            paths: Paths of the files.
            encoding: ``"utf-8"``, one symbol per character, or ``"bytes"``, one per byte. With
                ``"utf-8"``, files in UTF-16 and UTF-32 are recognized by their byte-order marks,
                and no mark is a symbol. With either, files in gzip, bzip2, xz or Zstandard are
                decompressed.
            alphabet: All symbols in order, or the name ``"bytes"`` or ``"ascii"``. Default: the
                symbols of the files, in the order of their codes.
            malformed: ``"stop"`` at a character outside the alphabet and at a byte that is not
                UTF-8, or ``"skip"`` and count them; default ``"stop"``. The character NUL is in the
                alphabet only if that is given.
            laps: Number of passes over the files; default endless.
            follow: Whether to wait for more at the end of the file; requires a single file, and
                an alphabet unless ``encoding="bytes"``. Default no.

        Raises:
            StreamError: If a file cannot be read, or has a form that cannot; and without an
                alphabet, if a file is not UTF-8, or the files hold fewer than two characters or
                fewer than two different ones.
            SettingError: If settings contradict each other, or the alphabet is invalid.
        """
        given = require_list("Text.open(paths)", "paths", paths)
        files = tuple(require_path("Text.open(paths)", "path", path) for path in given)
        call = f"Text.open({', '.join(map(str, files))!r})"
        if laps is not None:
            require_count(f"{call[:-1]}, laps={laps!r})", "number of laps", laps)
        if follow and (len(files) != 1 or laps is not None):
            raise SettingError(
                f"{call}: follow=True: expected one file and no laps, got {len(files)} files and "
                f"laps={laps!r}."
            )
        if alphabet is not None or follow:
            symbols = Alphabet.given(call, alphabet, encoding, malformed)
            content = Content(as_text=encoding == "utf-8", growing=follow)
            for path in files:
                block = content.block(call, path, 0, 0)
                looks = other_encoding(path, block) if encoding == "utf-8" else ""
                if looks and malformed == "skip":
                    LOGGER.warning("%s: what is not UTF-8 is left out. %s", call, looks.strip())
            return cls(files, symbols, GIVEN, laps, follow)
        require_choice(call, "encoding", encoding, ("utf-8", "bytes"))
        require_choice(call, "malformed", malformed, ("stop", "skip"))
        codes, length = find_codes(_read_codes(files, encoding, malformed))
        if length < 2:
            raise StreamError(f"{call}: expected at least two characters, got {length}.")
        if len(codes) < 2:
            raise StreamError(
                f"{call}: expected at least two different characters, got only "
                f"{chr(int(codes[0]))!r}."
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
        """``None``: unknown."""
        return

    def stream(self, seed: int = 0) -> PairStream | GrowingStream:
        """Return the stream of ``{"symbol", "target"}``, from the beginning.

        Args:
            seed: Not used.
        """
        reader = FileReader(self.paths, self.symbols, self.hint, laps=self.laps, follow=self.follow)
        return GrowingStream(reader, sleep) if self.follow else PairStream(reader)


def _read_codes(paths: Sequence[Path], encoding: Encoding, malformed: Malformed) -> Iterator[Codes]:
    content = Content(as_text=encoding == "utf-8")
    for path in paths:
        call, place, ended = f"Text.open({str(path)!r})", BEGINNING, False
        looks, left_out, total = "", 0, 0
        while not ended:
            block = content.block(call, path, place.byte, place.checksum)
            if encoding == "utf-8":
                place, block = behind_mark(place, block)
            codes, consumed = decode(block.data, encoding, final=block.ends)
            broken = escaped(codes)
            if broken.any() and not looks:
                looks = other_encoding(path, block)
            if encoding == "utf-8":
                broken |= codes == 0
            if broken.any() and malformed == "stop":
                first = int(broken.argmax())
                byte = place.byte + int(ends_of(codes, consumed)[first]) - 1
                advice = f"{looks}{OTHERWISE if looks else READ}"
                if codes[first] == 0:
                    advice = f"{TORN}{READ}"
                raise StreamError(
                    f"{call}: byte {byte} of {spell_file(path, block)} is "
                    f"{spell_stranger(describe(int(codes[first]), encoding), block)}. {advice}"
                )
            yield codes[~broken]
            left_out, total = left_out + int(broken.sum()), total + len(codes)
            place, ended = place.on(block, consumed, 0), block.ends
        if looks or left_out > MANY * total:
            LOGGER.warning(
                "%s: %d of %d characters are left out: they are NUL or not UTF-8. %s",
                *(call, left_out, total, looks.strip() or OTHER),
            )
