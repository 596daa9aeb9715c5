"""The form of a file, by its first bytes: compressed, UTF-16, UTF-32, or plain."""

from __future__ import annotations

import bz2
import codecs
import lzma
import zlib
from collections.abc import Callable
from importlib import import_module
from typing import Any

from uoro.errors import StreamError

HEAD_BYTES = 4096
MARK = codecs.BOM_UTF8

GZIP, BZIP2, XZ, ZSTANDARD = "gzip", "bzip2", "xz", "Zstandard"

COMPRESSIONS = {
    b"\x1f\x8b\x08": GZIP,
    **{b"BZh%d1AY&SY" % level: BZIP2 for level in range(1, 10)},
    b"\xfd7zXZ\0": XZ,
    b"\x28\xb5\x2f\xfd": ZSTANDARD,
}
"""Names of the compressions by the bytes with which their files begin."""

TOOLS = {GZIP: "gzip -dc", BZIP2: "bzip2 -dc", XZ: "xz -dc", ZSTANDARD: "zstd -dc"}
"""Commands that decompress a file to standard output."""

MARKS = {
    codecs.BOM_UTF32_LE: "UTF-32LE",  # first: it begins with the mark of UTF-16LE
    codecs.BOM_UTF32_BE: "UTF-32BE",
    codecs.BOM_UTF16_LE: "UTF-16LE",
    codecs.BOM_UTF16_BE: "UTF-16BE",
}
"""Encodings by their byte-order marks."""

ARCHIVES = {
    b"PK\x03\x04": "a zip archive (or a document of an office program)",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive",
    b"\x04\x22\x4d\x18": "an lz4 file",
    b"Rar!\x1a\x07": "a rar archive",
    b"LZIP": "an lzip file",
    b"\x1f\x9d": "a file of the program compress (.Z)",
    b"%PDF-": "a PDF",
    b"\x89PNG\r\n\x1a\n": "an image (PNG)",
    b"\xff\xd8\xff": "an image (JPEG)",
    b"\x7fELF": "a program (ELF)",
}
"""Forms that hold no plain text, by the bytes with which they begin."""

UNUSED = {0x81, 0x8D, 0x8F, 0x90, 0x9D, 0xFF}
"""Bytes without a letter in CP1252, and the one whose letter hardly occurs."""


def compression(head: bytes) -> str | None:
    """Return the name of the compression of a file that begins with some bytes."""
    return next((name for sign, name in COMPRESSIONS.items() if head.startswith(sign)), None)


def marked(head: bytes) -> str | None:
    """Return the encoding that a byte-order mark states, UTF-16 or UTF-32."""
    return next((name for mark, name in MARKS.items() if head.startswith(mark)), None)


def undecided(head: bytes) -> bool:
    """Return whether more bytes may show that these begin a compressed file or UTF-16."""
    return bool(head) and any(
        len(head) < len(sign) and sign.startswith(head) for sign in (*COMPRESSIONS, *MARKS)
    )


def unmarked(head: bytes) -> str | None:
    """Return the encoding, UTF-16 or UTF-32, of which the zero bytes of a text are typical."""
    if len(head) < 8:
        return None
    length = len(head) - len(head) % 4
    zeros = [head[place:length:4].count(0) * 4 / length for place in range(4)]
    for name, high, middle, low in (("UTF-32LE", 3, 2, 0), ("UTF-32BE", 0, 1, 3)):
        if zeros[high] > 0.99 and zeros[middle] > 0.4 and zeros[low] < 0.1:
            return name
    for name, high in (("UTF-16LE", 1), ("UTF-16BE", 0)):
        if max(zeros[1 - high], zeros[3 - high]) >= 0.1:
            continue
        if min(zeros[high], zeros[high + 2]) > 0.4 or _of_one_script(head[:length], name, high):
            return name
    return None


def _of_one_script(data: bytes, encoding: str, high: int) -> bool:
    """Return whether bytes are printable UTF-16 of few scripts, one of them that of the space."""
    scripts = set(data[high::2])
    if 0 not in scripts or len(scripts) > min(4, len(data) // 16):
        return False
    text = data[: len(data) - 4].decode(encoding, "replace")
    return all(character.isprintable() or character.isspace() for character in text)


def require_text(call: str, name: str, head: bytes) -> None:
    """Raise a StreamError if a file's first bytes are those of no text that can be read.

    Args:
        call: Name of the call, for the error.
        name: Name of the file, for the error.
        head: First bytes, decompressed.
    """
    expected = f"{call}: expected text, got {name}, which is"
    for sign, what in ARCHIVES.items():
        if head.startswith(sign):
            raise StreamError(f"{expected} {what}. Extract its text first.")
    if head[257:262] == b"ustar":
        raise StreamError(f"{expected} a tar archive. Extract its files first: tar -xf FILE.")
    if compression(head) is not None:
        raise StreamError(f"{expected} compressed twice. Decompress it first.")
    encoding = None if marked(head) else unmarked(head)
    if encoding is not None:
        raise StreamError(
            f"{expected} {encoding} without a byte-order mark, by its zero bytes. Convert it: "
            f"iconv -f {encoding} -t UTF-8 FILE > NEW."
        )


def decompressor(call: str, name: str, form: str) -> Any:
    """Return a new decompressor, with ``decompress``, ``eof`` and ``unused_data``.

    Args:
        call: Name of the call, for the error.
        name: Name of the file, for the error.
        form: Name of the compression.

    Raises:
        StreamError: If there is no module for Zstandard.
    """
    if form == ZSTANDARD:
        return _zstandard(call, name)()
    return {
        GZIP: lambda: zlib.decompressobj(16 + zlib.MAX_WBITS),
        BZIP2: bz2.BZ2Decompressor,
        XZ: lzma.LZMADecompressor,
    }[form]()


def _zstandard(call: str, name: str) -> Callable[[], Any]:
    """Return the decompressor of Python 3.14, or that of the package ``zstandard``."""
    for module, make in (
        ("compression.zstd", lambda found: found.ZstdDecompressor),
        ("zstandard", lambda found: lambda: found.ZstdDecompressor().decompressobj()),
    ):
        try:
            return make(import_module(module))
        except ImportError:
            continue
    raise StreamError(
        f"{call}: {name} is compressed with Zstandard, and there is no decompressor for it. Try: "
        "pip install zstandard; or decompress it first: zstd -d FILE."
    )


def single_byte(data: bytes, *, final: bool) -> str | None:
    """Return ``"Latin-1"`` or ``"CP1252"`` if bytes look like a text in it and not like UTF-8.

    Args:
        data: Some bytes of a file.
        final: Whether the file ends with them.
    """
    high = [byte for byte in data if byte >= 0x80]
    text = codecs.getincrementaldecoder("utf-8")("surrogateescape").decode(data, final)
    not_utf_8 = sum("\udc80" <= character <= "\udcff" for character in text)
    control = any(byte < 32 and byte not in b"\t\n\f\r" for byte in data)
    if not high or 10 * not_utf_8 < 9 * len(high) or 3 * len(high) > len(data) or control:
        return None
    if set(high) & UNUSED:
        return None
    return "Latin-1" if min(high) >= 0xA0 else "CP1252"
