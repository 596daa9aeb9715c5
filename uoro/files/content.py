"""The content of files, block by block: decompressed, and UTF-16 and UTF-32 as UTF-8."""

from __future__ import annotations

import codecs
import os
import shlex
import zlib
from pathlib import Path
from typing import Any, BinaryIO

from uoro.errors import StreamError
from uoro.files.forms import (
    HEAD_BYTES,
    MARK,
    TOOLS,
    compression,
    decompressor,
    marked,
    require_text,
    single_byte,
)
from uoro.files.places import BLOCK_BYTES, REMEMBERED, Block, Place, read_block

PIECE_BYTES = 1 << 14
NOT_UTF_8 = "uoro.not_utf_8"


def _replace(error: UnicodeError) -> tuple[str, int]:
    """Replace what is not UTF-16 or UTF-32 by the byte 0xff, which UTF-8 never holds."""
    assert isinstance(error, UnicodeDecodeError)
    return "\udcff", error.end


codecs.register_error(NOT_UTF_8, _replace)


class Content:
    """The content of files, from any byte on.

    A plain file is read as it is. Of a compressed file the bytes are those decompressed, and of
    UTF-16 and UTF-32 with a byte-order mark those of the same text in UTF-8. To go back in such a
    file is to convert it again from its beginning; to go on is not.

    Args:
        as_text: Whether to recognize UTF-16, UTF-32, and what is no text.
        growing: Whether the file may grow, so that it cannot be converted.
    """

    def __init__(self, *, as_text: bool, growing: bool = False) -> None:
        self._as_text = as_text
        self._growing = growing
        self._conversion: Conversion | None = None

    def block(self, call: str, path: Path, start: int, checksum: int) -> Block:
        """Read a block of the content, if the bytes before it are as they were.

        Args:
            call: Name of the call, for errors.
            path: File.
            start: Number of bytes of the content before the block.
            checksum: CRC-32 of the last `REMEMBERED` bytes before the block.

        Raises:
            StreamError: If the file cannot be read, is too short, has changed, is damaged, or has a
                form that cannot be read.
        """
        head = read_block(call, path, 0, 0, HEAD_BYTES).data
        packed = compression(head)
        encoding = marked(head) if self._as_text else None
        if packed is None and encoding is None:
            if self._as_text:
                require_text(call, repr(str(path)), head)
            return read_block(call, path, start, checksum)
        if self._growing:
            tool = TOOLS[packed] if packed else f"iconv -f {encoding} -t UTF-8"
            raise StreamError(
                f"{call}: follow=True: expected plain UTF-8 or bytes, got {str(path)!r}, which is "
                f"{packed or encoding}. Leave out follow=True, or convert it: {tool} FILE > NEW."
            )
        return self._converted(call, path, packed, start, checksum)

    def _converted(
        self, call: str, path: Path, packed: str | None, start: int, checksum: int
    ) -> Block:
        try:
            with path.open("rb") as file:
                status = os.fstat(file.fileno())
                key = (path, status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
                here = self._conversion
                if here is None or here.key != key or not here.holds(start):
                    here = Conversion(key, path, packed, as_text=self._as_text)
                self._conversion = None  # Until all has gone well.
                before, data = here.read(call, file, start)
                self._conversion = here
        except OSError as error:
            raise StreamError(
                f"{call}: expected a file that can be read, got {str(path)!r}: {error.strerror}."
            ) from error
        if zlib.crc32(before) != checksum or len(before) < min(REMEMBERED, start):
            raise StreamError(
                f"{call}: expected {str(path)!r} as it was read, got other bytes before byte "
                f"{start} of its {here.form} content. Restore the file, or begin a new stream."
            )
        identity = (status.st_dev, status.st_ino)
        return Block(before, data, len(data) < BLOCK_BYTES, identity, here.form)


class Conversion:
    """A file as far as it was converted.

    Args:
        key: Path and status of the file, by which it is recognized.
        path: File.
        packed: Name of the compression; ``None`` if there is none.
        as_text: Whether to turn UTF-16 and UTF-32 into UTF-8.
    """

    def __init__(self, key: Any, path: Path, packed: str | None, *, as_text: bool) -> None:
        self.key = key
        self.form = packed or ""
        self._path = path
        self._packed = packed
        self._unpacker: Any = None
        self._decoder: codecs.IncrementalDecoder | None = None
        self._as_text = as_text
        self._head: bytes | None = b""
        self._raw = 0
        self._ended = False
        self._first, self._held = 0, b""

    def holds(self, start: int) -> bool:
        """Return whether the bytes before a place are still held, or not yet converted."""
        return self._first <= max(0, start - REMEMBERED)

    def read(self, call: str, file: BinaryIO, start: int) -> tuple[bytes, bytes]:
        """Return the bytes remembered before a place, and the block behind it."""
        while not self._ended and self._first + len(self._held) < start + BLOCK_BYTES:
            self._forget(start)
            self._held += self._convert(call, file)
        self._forget(start)
        here = max(0, start - self._first)
        return self._held[:here], self._held[here : here + BLOCK_BYTES]

    def _forget(self, start: int) -> None:
        """Drop the bytes that neither a block at a place nor its checksum needs."""
        gone = min(len(self._held), max(0, start - REMEMBERED) - self._first)
        if gone > 0:
            self._first, self._held = self._first + gone, self._held[gone:]

    def _convert(self, call: str, file: BinaryIO) -> bytes:
        """Convert the next piece of the file."""
        file.seek(self._raw)
        piece = file.read(PIECE_BYTES)
        self._raw += len(piece)
        self._ended = not piece
        data = self._unpack(call, piece) if self._packed else piece
        if self._head is not None:
            self._head += data
            if len(self._head) < HEAD_BYTES and not self._ended:
                return b""
            data, self._head = self._head, None
            data = self._begin(call, data)
        if self._decoder is None:
            return data
        text = self._decoder.decode(data, self._ended)
        return text.encode("utf-8", "surrogateescape")

    def _begin(self, call: str, data: bytes) -> bytes:
        """Recognize the encoding; return the bytes behind its mark."""
        encoding = marked(data) if self._as_text else None
        if encoding is None:
            if self._as_text:
                require_text(call, repr(str(self._path)), data)
            return data
        self.form = f"{self.form} {encoding}".strip()
        self._decoder = codecs.getincrementaldecoder(encoding)(NOT_UTF_8)
        return data[4 if encoding.startswith("UTF-32") else 2 :]

    def _unpack(self, call: str, piece: bytes) -> bytes:
        """Decompress a piece of the file, which may hold several members one after the other."""
        assert self._packed is not None
        name, parts = repr(str(self._path)), []
        try:
            while True:
                if self._unpacker is None:
                    piece = piece.lstrip(b"\0") if self._raw > len(piece) else piece
                    if not piece:
                        break
                    self._unpacker = decompressor(call, name, self._packed)
                parts.append(self._unpacker.decompress(piece))
                if not self._unpacker.eof:
                    break
                piece, self._unpacker = self._unpacker.unused_data.lstrip(b"\0"), None
        except StreamError:
            raise
        except Exception as error:
            # Each module raises an error of its own.
            raise StreamError(
                f"{call}: expected {self._packed} data that are whole, got {name}: {error}. Get "
                "the file anew."
            ) from error
        if self._ended and self._unpacker is not None:
            raise StreamError(
                f"{call}: expected {self._packed} data that are whole, got {name}, which ends too "
                "early. Get the file anew."
            )
        return b"".join(parts)


def behind_mark(place: Place, block: Block) -> tuple[Place, Block]:
    """Return a place and the block that begins there, both behind a byte-order mark of UTF-8."""
    if place.byte or not block.data.startswith(MARK):
        return place, block
    count = len(MARK)
    return place.on(block, count, 0), block._replace(before=MARK, data=block.data[count:])


def spell_file(path: Path, block: Block) -> str:
    """Return the name of a file for an error, with the form from which it was converted."""
    return repr(str(path)) + (f", converted from {block.form}," if block.form else "")


def spell_stranger(stranger: str, block: Block) -> str:
    """Return words for a malformed symbol; in a converted file it is malformed there."""
    encoding = block.form.rpartition(" ")[2]
    converted = encoding.startswith("UTF-") and "not UTF-8" in stranger
    return f"something that is not {encoding}" if converted else stranger


def other_encoding(path: Path, block: Block) -> str:
    """Return what text that is not UTF-8 looks like, with the way to convert it, or nothing."""
    name = single_byte(block.data, final=block.ends)
    if name is None:
        return ""
    file = shlex.quote(str(path))
    convert = f"iconv -f {'LATIN1' if name == 'Latin-1' else name} -t UTF-8"
    tool = TOOLS.get(block.form)
    command = f"{tool} {file} | {convert}" if tool else f"{convert} {file}"
    return f"The text looks like {name}. Convert it: {command} > NEW. "
