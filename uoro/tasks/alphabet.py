"""Alphabets: from bytes to numbered symbols, and symbols outside the alphabet."""

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
"""Offset of the code of a byte that is not UTF-8; no character has such a code."""

NAMED = {
    "bytes": "".join(map(chr, range(256))),
    "ascii": "\t\n" + "".join(map(chr, range(32, 127))),
}


class Decoded(NamedTuple):
    """Decoded symbols and their places in the bytes.

    Attributes:
        symbols: Numbers of the symbols.
        ends: Number of bytes up to the end of each symbol.
        skipped: Number of malformed symbols before each symbol.
        consumed: Number of bytes decoded; an incomplete character at the end does not count.
        left_out: Number of malformed symbols in all.
        stranger: The malformed symbol at byte ``consumed`` that stopped decoding; ``None`` if none.
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
    """An alphabet: symbols in the order of their numbers, and their encoding.

    Args:
        codes: Code points of the symbols, or bytes.
        encoding: ``"utf-8"``, one symbol per character, or ``"bytes"``, one per byte.
        malformed: ``"stop"`` at a character outside the alphabet and at a byte that is not UTF-8,
            or ``"skip"`` and count them.
    """

    codes: Codes
    encoding: Encoding
    malformed: Malformed

    @classmethod
    def given(
        cls, call: str, symbols: str | None, encoding: Encoding, malformed: Malformed
    ) -> Alphabet:
        """Return the alphabet of a name, ``"bytes"`` or ``"ascii"``, or of given symbols.

        Args:
            call: The call, for errors.
            symbols: The name or all symbols; ``None`` for the default of the encoding.
            encoding: The encoding.
            malformed: ``"stop"`` or ``"skip"``.

        Raises:
            SettingError: If ``symbols`` is ``None`` and the encoding has no default, if there are
                fewer than two symbols, or if one is repeated or impossible in the encoding.
        """
        require_choice(call, "encoding", encoding, ("utf-8", "bytes"))
        require_choice(call, "malformed", malformed, ("stop", "skip"))
        if symbols is None and encoding != "bytes":
            raise SettingError(
                f"{call}: alphabet: expected 'ascii' or all symbols, got None; a source that still "
                "grows cannot be read beforehand. With encoding='bytes' none is needed."
            )
        symbols = "bytes" if symbols is None else symbols
        if symbols == "bytes" and encoding != "bytes":
            raise SettingError(
                f"{call}: alphabet='bytes': expected encoding='bytes', got {encoding!r}."
            )
        symbols = NAMED.get(symbols, symbols)
        seen: set[str] = set()
        for symbol in symbols:
            if symbol in seen:
                raise SettingError(
                    f"{call}: alphabet: expected each symbol once, got {symbol!r} twice."
                )
            if (encoding == "bytes" and ord(symbol) > 255) or 0xD800 <= ord(symbol) < 0xE000:
                raise SettingError(
                    f"{call}: alphabet: expected symbols of encoding={encoding!r}, got {symbol!r}. "
                    "Leave it out."
                )
            seen.add(symbol)
        if len(symbols) < 2:
            raise SettingError(
                f"{call}: alphabet: expected 'bytes', 'ascii', or at least two symbols, got "
                f"{symbols!r}."
            )
        return cls(np.array([ord(symbol) for symbol in symbols], np.uint32), encoding, malformed)

    @property
    def symbols(self) -> str:
        """The symbols in order; bytes are shown as Latin-1."""
        return "".join(chr(int(code)) for code in self.codes)

    @cached_property
    def _numbers(self) -> Codes:
        """Return the number of each code; -1 for codes that are no symbol."""
        numbers = np.full(max(256, int(self.codes.max(initial=0)) + 1) + 1, -1, np.int32)
        numbers[self.codes] = np.arange(len(self.codes))
        return numbers

    def decode(self, data: bytes, *, final: bool) -> Decoded:
        """Decode bytes into symbols.

        Args:
            data: Bytes that begin with a whole character.
            final: Whether no bytes follow; an incomplete character is then malformed.
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
    """Decode bytes into code points, with ``ESCAPED + byte`` for a byte that is not UTF-8.

    Args:
        data: The bytes.
        encoding: The encoding.
        final: Whether no bytes follow; an incomplete character is then not UTF-8.

    Returns:
        The codes, and the number of bytes decoded.
    """
    if encoding == "bytes":
        return np.frombuffer(data, np.uint8), len(data)
    text, consumed = codecs.utf_8_decode(data, "surrogateescape", final)
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32), consumed


def escaped(codes: Codes) -> Codes:
    """Return a mask of the codes that stand for bytes that are not UTF-8."""
    escapes: Codes = codes >> 8 == ESCAPED >> 8
    return escapes


def describe(code: int, encoding: Encoding) -> str:
    """Return words for a symbol outside the alphabet.

    Args:
        code: A code point or a byte.
        encoding: The encoding.
    """
    if encoding == "bytes":
        return f"the byte 0x{code:02x}"
    if code >> 8 == ESCAPED >> 8:
        return f"the byte 0x{code - ESCAPED:02x}, which is not UTF-8"
    if code == 0:
        return "the character NUL"
    return f"the character {chr(code)!r}"


def ends_of(codes: Codes, consumed: int) -> Codes:
    """Return the number of bytes up to the end of each code.

    Args:
        codes: Codes from `decode`.
        consumed: Number of bytes of all codes.
    """
    if len(codes) == consumed:
        return np.arange(1, consumed + 1)
    lengths = 1 + (codes >= 0x80) + (codes >= 0x800).astype(np.int64) + (codes >= 0x10000)
    lengths[escaped(codes)] = 1
    return np.cumsum(lengths)


def find_codes(codes: Iterable[Codes]) -> tuple[Codes, int]:
    """Return the codes that occur, in ascending order, and the number of codes in all."""
    seen = np.zeros(CODE_POINTS, np.bool_)
    length = 0
    for block in codes:
        seen[block] = True
        length += len(block)
    return np.flatnonzero(seen).astype(np.uint32), length
