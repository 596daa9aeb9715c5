"""The first bytes of a checkpoint: where everything is, and a checksum of all of it.

A file is eight bytes with the length of the header, the header in JSON, and the arrays. The header
begins with one entry of safetensors' own metadata, ``"uoro"``: JSON in a string, which says
checksum, format, document and dtypes. As it comes first, the checksum stands at the same place in
every file. It is blake2b of the whole file with zeros in that place. Every later format keeps this
beginning, so that a version that cannot read a file can still tell that it is newer.
"""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

FORMAT = 1
DIGITS = 64
ZEROS = b"0" * DIGITS
BEGINNING = b'{"__metadata__":{"uoro":"{\\"checksum\\":\\"'
# Where the checksum stands in the file.
PLACE = 8 + len(BEGINNING)
LONGEST = 16 * 1024 * 1024


class Damage(Exception):  # noqa: N818  # it is what an error says, not yet one
    """What is wrong with a file and what to do; the caller adds which file it is."""


class Metadata(NamedTuple):
    """The metadata of a checkpoint, under ``"uoro"`` in the header."""

    checksum: str
    format: int
    document: dict[str, Any]
    dtypes: dict[str, str]


def spell_metadata(document: dict[str, Any], dtypes: dict[str, str]) -> str:
    """Return the metadata as JSON: the checksum first, as zeros, in as few bytes as possible.

    Raises:
        ValueError: If JSON cannot write a number of the document.
    """
    fields = {
        "checksum": ZEROS.decode(),
        "format": FORMAT,
        "document": document,
        "dtypes": dtypes,
    }
    # ASCII alone, as text may hold halves of characters; NaN and infinities are bare words.
    return json.dumps(fields, separators=(",", ":"), ensure_ascii=True)


def read_header(length: bytes, rest: bytes, size: int) -> tuple[str, str]:
    """Check a header before anything is built from it.

    Args:
        length: First eight bytes of the file, or fewer if the file is shorter.
        rest: Bytes that follow, at least the header if the file is whole.
        size: Number of bytes of the file.

    Returns:
        The checksum, and the metadata as text.

    Raises:
        Damage: If the bytes are not the header of a checkpoint of that size.
    """
    wanted = int.from_bytes(length, "little")
    if size < PLACE:
        raise Damage(
            f"it has {size} bytes, too few for a checkpoint. It is cut short or something else: "
            "take an earlier one"
        )
    if not rest.startswith(BEGINNING):
        raise Damage(
            "it does not begin as a checkpoint of uoro. Give the path of a file that "
            "write_checkpoint wrote, or of an earlier one if this one is damaged"
        )
    if wanted > size - 8:
        raise Damage(
            f"it is cut short: {size:,} bytes, and its header alone has {wanted:,}. "
            "Take an earlier one"
        )
    if wanted > LONGEST:
        raise Damage(
            f"its header has {wanted:,} bytes, and the longest {LONGEST:,}. It is damaged: take "
            "an earlier one"
        )
    header = parse(rest[:wanted])
    metadata = header.pop("__metadata__")
    end = 8 + wanted + _end(header)
    if size != end:
        raise Damage(
            f"it is cut short: {size:,} bytes of {end:,}. Take an earlier one"
            if size < end
            else f"it has {size:,} bytes, {size - end:,} more than its header says. It is "
            "damaged: take an earlier one"
        )
    checksum = rest[len(BEGINNING) : len(BEGINNING) + DIGITS]
    if not re.fullmatch(rb"[0-9a-f]{64}", checksum):
        raise Damage("its checksum is unreadable. It is damaged: take an earlier one")
    return checksum.decode(), metadata["uoro"]


def read_metadata(text: str) -> Metadata:
    """Read the metadata of a file whose checksum is right.

    Raises:
        Damage: If the format is newer, or the metadata were not written by `spell_metadata`.
    """
    fields = parse(text.encode(), constants=True)
    number = fields.get("format")
    if isinstance(number, int) and not isinstance(number, bool) and number > FORMAT:
        raise Damage(
            f"its format is {number}, and this version of uoro reads {FORMAT}. Install a newer uoro"
        )
    document, dtypes = fields.get("document"), fields.get("dtypes")
    if (
        number != FORMAT
        or not isinstance(document, dict)
        or not isinstance(dtypes, dict)
        or not all(isinstance(dtype, str) for dtype in dtypes.values())
    ):
        raise Damage(
            f"its metadata are not those of format {FORMAT}. It was made by something else"
        )
    return Metadata(fields["checksum"], FORMAT, document, dtypes)


def parse(written: bytes, *, constants: bool = False) -> dict[str, Any]:
    """Read a JSON object, however odd the bytes.

    Args:
        written: Bytes.
        constants: Whether NaN and Infinity count as numbers.

    Raises:
        Damage: If the bytes are anything else, or a key occurs twice.
    """

    def refuse(word: str) -> Any:
        raise ValueError(f"{word} is no number here")

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise ValueError("a key stands there twice")
        return found

    try:
        # With None, the words NaN and Infinity are read as floats.
        found = json.loads(
            written.decode(), object_pairs_hook=unique, parse_constant=None if constants else refuse
        )
        if not isinstance(found, dict):
            raise ValueError("it is no object")
    except (ValueError, RecursionError, MemoryError) as error:
        raise Damage(f"its header cannot be read ({error}). Take an earlier one") from error
    return found


def _end(entries: dict[str, Any]) -> int:
    """Return where the last array ends; safetensors' own reader checks the rest of the entries."""
    try:
        return max((int(entry["data_offsets"][1]) for entry in entries.values()), default=0)
    except (TypeError, LookupError, ValueError, OverflowError) as error:
        raise Damage("its header is damaged. Take an earlier checkpoint") from error
