"""From bytes to numbered symbols: encodings, alphabets, and what is in none."""

from __future__ import annotations

import codecs
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

from uoro.arguments import require_choice
from uoro.errors import SettingError

Encoding: TypeAlias = Literal["utf-8", "bytes"]
Malformed: TypeAlias = Literal["stop", "skip"]
Codes: TypeAlias = np.ndarray[Any, np.dtype[Any]]

CODE_POINTS = 0x110000
ESCAPED = 0xDC00
"""A byte that is no UTF-8 is decoded as this plus the byte, which no character is."""

NAMED = {
    "bytes": "".join(map(chr, range(256))),
    "ascii": "\t\n" + "".join(map(chr, range(32, 127))),
}


class Decoded(NamedTuple):
    """Symbols, and where in the bytes they were.

    Attributes:
        symbols: Their numbers.
        ends: How many bytes there are up to the end of each symbol.
        skipped: How much was left out before each symbol.
        consumed: How many bytes were gone through; a character that is not whole is not.
        left_out: How much was left out in all.
        stranger: What stopped it, at the byte ``consumed``.
    """

    symbols: Codes
    ends: Codes
    skipped: Codes
    consumed: int
    left_out: int
    stranger: str | None


_none: Codes = np.zeros(0, np.int64)
NOTHING = Decoded(np.zeros(0, np.int32), _none, _none, 0, 0, None)


@dataclass(frozen=True)
class Alphabet:
    """Symbols in the order of their numbers, and how bytes become them.

    Args:
        codes: The code points, or the bytes.
        encoding: ``"utf-8"``, a symbol a character; or ``"bytes"``, a symbol a byte.
        malformed: What to do with a character that is not in the alphabet, or a byte that is no
            UTF-8: ``"stop"`` there, or ``"skip"`` it and count it.
    """

    codes: Codes
    encoding: Encoding
    malformed: Malformed

    @classmethod
    def given(
        cls, call: str, symbols: str | None, encoding: Encoding, malformed: Malformed
    ) -> Alphabet:
        """Take an alphabet as somebody gives it: ``"bytes"``, ``"ascii"``, or all the symbols.

        Args:
            call: What to call it in errors.
            symbols: The name, or the symbols themselves; ``None`` where nothing can be read
                beforehand to find them.
            encoding: The encoding.
            malformed: What to do with anything else.

        Raises:
            SettingError: If it is missing, or has fewer than two symbols, or one is there twice or
                cannot be in that encoding.
        """
        require_choice(call, "encoding", encoding, ("utf-8", "bytes"))
        require_choice(call, "malformed", malformed, ("stop", "skip"))
        if symbols is None and encoding != "bytes":
            raise SettingError(
                f"{call}: what is still being written cannot be read beforehand to find its "
                "alphabet. Give alphabet='ascii', or all the symbols; or encoding='bytes'."
            )
        symbols = "bytes" if symbols is None else symbols
        if symbols == "bytes" and encoding != "bytes":
            raise SettingError(
                f"{call}: the alphabet 'bytes' is for encoding='bytes', got encoding={encoding!r}."
            )
        symbols = NAMED.get(symbols, symbols)
        seen: set[str] = set()
        for symbol in symbols:
            if symbol in seen:
                raise SettingError(f"{call}: {symbol!r} is in the alphabet twice. Give it once.")
            if (encoding == "bytes" and ord(symbol) > 255) or 0xD800 <= ord(symbol) < 0xE000:
                raise SettingError(
                    f"{call}: {symbol!r} is in the alphabet and cannot be in a text with "
                    f"encoding={encoding!r}. Leave it out."
                )
            seen.add(symbol)
        if len(symbols) < 2:
            raise SettingError(
                f"{call}: the alphabet is {symbols!r}. Give 'bytes', 'ascii', or two symbols at "
                "least."
            )
        return cls(np.array([ord(symbol) for symbol in symbols], np.uint32), encoding, malformed)

    @property
    def symbols(self) -> str:
        """The symbols in order; bytes are shown as Latin-1."""
        return "".join(chr(int(code)) for code in self.codes)

    @cached_property
    def _numbers(self) -> Codes:
        """The number of each code; -1 of one that is no symbol, and behind the last."""
        numbers = np.full(max(256, int(self.codes.max(initial=0)) + 1) + 1, -1, np.int32)
        numbers[self.codes] = np.arange(len(self.codes))
        return numbers

    def decode(self, data: bytes, *, final: bool) -> Decoded:
        """Turn bytes into symbols, up to what has to stop it.

        Args:
            data: They begin with a whole character.
            final: Whether none come after them, so that half a character is malformed.
        """
        codes, consumed = decode(data, self.encoding, final=final)
        symbols = self._numbers.take(codes, mode="clip")
        ends = ends_of(codes, consumed)
        known = symbols >= 0
        if known.all():
            return Decoded(symbols, ends, np.zeros(len(ends), np.int64), consumed, 0, None)
        if self.malformed == "stop":
            first = int(np.argmin(known))
            nothing = np.zeros(first, np.int64)
            consumed = int(ends[first - 1]) if first else 0
            stranger = describe(int(codes[first]), self.encoding)
            return Decoded(symbols[:first], ends[:first], nothing, consumed, 0, stranger)
        kept = np.flatnonzero(known)
        skipped = kept - np.arange(len(kept))
        left_out = len(codes) - len(kept)
        return Decoded(symbols[kept], ends[kept], skipped, consumed, left_out, None)


def decode(data: bytes, encoding: Encoding, *, final: bool) -> tuple[Codes, int]:
    """Give the code points of bytes, with ``ESCAPED + byte`` where one is no UTF-8.

    Args:
        data: The bytes.
        encoding: The encoding.
        final: Whether half a character at the end counts as bytes that are no UTF-8.

    Returns:
        The codes, and how many bytes they were.
    """
    if encoding == "bytes":
        return np.frombuffer(data, np.uint8), len(data)
    text, consumed = codecs.utf_8_decode(data, "surrogateescape", final)
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32), consumed


def escaped(codes: Codes) -> Codes:
    """Say which code points are bytes that are no UTF-8."""
    escapes: Codes = codes >> 8 == ESCAPED >> 8
    return escapes


def describe(code: int, encoding: Encoding) -> str:
    """Name what is in no alphabet.

    Args:
        code: A code point, or a byte.
        encoding: The encoding.
    """
    if encoding == "bytes":
        return f"the byte 0x{code:02x}"
    if code >> 8 == ESCAPED >> 8:
        return f"the byte 0x{code - ESCAPED:02x}, which is not UTF-8"
    return f"the character {chr(code)!r}"


def ends_of(codes: Codes, consumed: int) -> Codes:
    """Say how many bytes there are up to the end of each code.

    Args:
        codes: What `decode` gives.
        consumed: How many bytes they are in all.
    """
    if len(codes) == consumed:
        return np.arange(1, consumed + 1)
    lengths = 1 + (codes >= 0x80) + (codes >= 0x800).astype(np.int64) + (codes >= 0x10000)
    lengths[escaped(codes)] = 1
    return np.cumsum(lengths)


def find_codes(codes: Iterable[Codes]) -> tuple[Codes, int]:
    """List the codes that occur, in ascending order, and count how many there were in all."""
    seen = np.zeros(CODE_POINTS, np.bool_)
    length = 0
    for block in codes:
        seen[block] = True
        length += len(block)
    return np.flatnonzero(seen).astype(np.uint32), length
