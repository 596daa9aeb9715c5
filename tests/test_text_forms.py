"""Text files as they are found: byte-order marks, UTF-16, compressed, in another encoding."""

from __future__ import annotations

import bz2
import codecs
import gzip
import json
import lzma
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from uoro.cli.flags import in_flags
from uoro.errors import StreamError
from uoro.files import forms
from uoro.files.places import BLOCK_BYTES
from uoro.tasks import Pipe, Text
from uoro.tasks.alphabet import Alphabet, Encoding

CONTENT = "Être ou 是🎭 ne pas,\n" * 40
LATIN = "Être ou ne pas être: naïf, déjà vu\n" * 9
RUSSIAN = "Быть или не быть, вот в чём вопрос.\n"
TYPOGRAPHIC = "It\N{RIGHT SINGLE QUOTATION MARK}s caf\N{LATIN SMALL LETTER E WITH ACUTE}\n" * 9


def gzipped(data: bytes) -> bytes:
    """Compress without the time, which would give every worker other names of tests."""
    return gzip.compress(data, mtime=0)


READABLE: dict[str, Callable[[str], bytes]] = {
    "UTF-8 with a mark": lambda text: codecs.BOM_UTF8 + text.encode(),
    "UTF-16LE": lambda text: codecs.BOM_UTF16_LE + text.encode("utf-16-le"),
    "UTF-16BE": lambda text: codecs.BOM_UTF16_BE + text.encode("utf-16-be"),
    "UTF-32LE": lambda text: codecs.BOM_UTF32_LE + text.encode("utf-32-le"),
    "UTF-32BE": lambda text: codecs.BOM_UTF32_BE + text.encode("utf-32-be"),
    "gzip": lambda text: gzipped(text.encode()),
    "bzip2": lambda text: bz2.compress(text.encode()),
    "xz": lambda text: lzma.compress(text.encode()),
    "gzip, two members": lambda text: (
        gzipped(text[:99].encode()) + gzipped(text[99:].encode()) + b"\0" * 9
    ),
    "UTF-16 in xz": lambda text: lzma.compress(codecs.BOM_UTF16_LE + text.encode("utf-16-le")),
    "a mark in gzip": lambda text: gzipped(codecs.BOM_UTF8 + text.encode()),
}
"""Files that hold a text, all to be read as that text."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file, not written yet."""
    return tmp_path / "book.txt"


def _spell(source: Text, stream: Any, count: int) -> str:
    items = stream.take(count)
    return "" if items is None else "".join(source.alphabet[i] for i in items["symbol"])


@pytest.mark.parametrize("form", READABLE)
@pytest.mark.parametrize("given", [False, True], ids=["found", "given"])
def test_every_form_is_read_as_its_text_lap_after_lap(path: Path, form: str, given: bool) -> None:
    path.write_bytes(READABLE[form](CONTENT))
    letters = "".join(sorted(set(CONTENT)))
    source = Text.open([path], alphabet=letters if given else None, laps=2)
    assert source.alphabet == letters, "no mark is a letter"
    assert _spell(source, source.stream(), 10**6) == (CONTENT * 2)[:-1]


@pytest.mark.parametrize("form", READABLE)
def test_every_form_is_read_on_from_any_position(path: Path, form: str) -> None:
    content = "".join(np.random.default_rng(0).choice(list("abc é是🎭\n"), BLOCK_BYTES + 9_999))
    path.write_bytes(READABLE[form](content))
    source = Text.open([path])
    whole = source.stream().take(len(content) + 999)["symbol"]
    stream, done = source.stream(), 0
    early = stream.position
    for count in (0, 1, 2, 30_000, 7, BLOCK_BYTES + 1, len(content)):
        count = min(count, len(whole) - done)
        position = json.loads(json.dumps(stream.position))
        anew = source.stream()
        anew.seek(position)
        assert anew.position == position
        part = stream.take(count)["symbol"]
        np.testing.assert_array_equal(part, whole[done : done + count])
        np.testing.assert_array_equal(anew.take(count)["symbol"], part)
        assert anew.position == stream.position
        done += count
    stream.seek(early)
    np.testing.assert_array_equal(stream.take(99)["symbol"], whole[:99])


def test_the_content_does_not_depend_on_its_form(path: Path) -> None:
    positions = []
    for form in ("UTF-16LE", "UTF-32BE", "gzip", "bzip2", "xz"):
        path.write_bytes(READABLE[form](CONTENT))
        stream = Text.open([path]).stream()
        stream.take(99)
        positions.append(stream.position)
    assert all(position == positions[0] for position in positions)


@pytest.mark.parametrize("form", ["UTF-16LE", "gzip"])
def test_a_converted_file_that_changed_is_refused(path: Path, form: str) -> None:
    path.write_bytes(READABLE[form](CONTENT))
    stream = Text.open([path]).stream()
    stream.take(700)
    position, letters = stream.position, "".join(sorted(set(CONTENT)))
    path.write_bytes(READABLE[form](CONTENT.replace("ou", "uo")))
    with pytest.raises(StreamError, match=f"other bytes before byte .* of its {form} content"):
        Text.open([path]).stream().seek(position)
    path.write_bytes(READABLE[form](CONTENT[:19]))
    with pytest.raises(StreamError, match=r"expected .*book.txt' as it was read"):
        Text.open([path], alphabet=letters).stream().seek(position)


@pytest.mark.parametrize("name", ["gzip", "bzip2", "xz"])
def test_damaged_files_are_refused(path: Path, name: str) -> None:
    whole = READABLE[name](CONTENT)
    path.write_bytes(whole[:-9])
    with pytest.raises(StreamError, match=rf"{name} data that are whole.*ends too early"):
        Text.open([path])
    path.write_bytes(whole[:20] + bytes(20) + whole[40:])
    with pytest.raises(StreamError, match=rf"{name} data that are whole, got .*: "):
        Text.open([path])


def test_zstandard_is_refused_by_name_without_a_decompressor(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.write_bytes(b"\x28\xb5\x2f\xfd" + bytes(40))

    def missing(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr(forms, "import_module", missing)
    encodings: tuple[Encoding, ...] = ("utf-8", "bytes")
    for encoding in encodings:
        with pytest.raises(StreamError, match=r"Zstandard.*pip install zstandard; .*zstd -d"):
            Text.open([path], encoding=encoding)


def test_zstandard_is_read_where_there_is_a_decompressor(path: Path) -> None:
    zstandard = pytest.importorskip("zstandard")
    path.write_bytes(zstandard.ZstdCompressor().compress(CONTENT.encode()))
    source = Text.open([path], laps=1)
    assert _spell(source, source.stream(), 10**6) == CONTENT[:-1]


@pytest.mark.parametrize("malformed", ["stop", "skip"])
@pytest.mark.parametrize(
    ("data", "message"),
    [
        (CONTENT.encode("utf-16-le"), "UTF-16LE without a byte-order mark.*iconv -f UTF-16LE"),
        ("To be".encode("utf-16-be"), "UTF-16BE without a byte-order mark"),
        ((RUSSIAN * 9).encode("utf-16-le"), "UTF-16LE without a byte-order mark"),
        ((RUSSIAN * 9).encode("utf-16-be"), "UTF-16BE without a byte-order mark"),
        (CONTENT.encode("utf-32-le"), "UTF-32LE without a byte-order mark"),
        (CONTENT.encode("utf-32-be"), "UTF-32BE without a byte-order mark"),
        (gzipped(gzipped(CONTENT.encode())), "compressed twice"),
        (b"PK\x03\x04" + bytes(99), "a zip archive"),
        (gzipped(b"name".ljust(257, b"\0") + b"ustar" + bytes(99)), "a tar archive"),
        (b"%PDF-1.7\n", "a PDF"),
        (b"\x89PNG\r\n\x1a\n" + bytes(99), "an image"),
        (b"\x7fELF" + bytes(99), "a program"),
    ],
)
def test_what_is_no_text_is_refused_by_name(
    path: Path, data: bytes, message: str, malformed: Any
) -> None:
    path.write_bytes(data)
    with pytest.raises(StreamError, match=message):
        Text.open([path], malformed=malformed)


@pytest.mark.parametrize(
    ("data", "name", "guess"),
    [
        (LATIN.encode("latin-1"), "Latin-1", "iconv -f LATIN1 -t UTF-8"),
        (TYPOGRAPHIC.encode("cp1252"), "CP1252", "iconv -f CP1252 -t UTF-8"),
    ],
)
def test_one_byte_a_letter_is_recognized(path: Path, data: bytes, name: str, guess: str) -> None:
    path.write_bytes(data)
    with pytest.raises(StreamError, match=rf"looks like {name}. Convert it: {guess}") as raised:
        Text.open([path])
    assert "encoding='bytes'" in str(raised.value)
    in_bytes = Text.open([path], encoding="bytes", laps=1)
    assert _spell(in_bytes, in_bytes.stream(), 10**6) == data.decode("latin-1")[:-1]


def test_letters_left_out_are_reported(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path.write_bytes(LATIN.encode("latin-1") * 999)
    assert "é" not in Text.open([path], malformed="skip").alphabet
    Text.open([path], alphabet="abcdefg ", malformed="skip")
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 2
    for message in told:
        assert re.search(r"left out.*The text looks like Latin-1\. Convert it: iconv", message)
    source = Text.open([path], alphabet="abcdefgÊ ")
    with pytest.raises(StreamError, match=r"0xca, which is not UTF-8\. The text looks like Latin"):
        source.stream().take(1)


def test_much_left_out_is_reported(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path.write_bytes((RUSSIAN * 9).encode("cp1251") + b"abc")
    Text.open([path], malformed="skip")
    (record,) = caplog.records
    assert re.search("234 of 327 characters are left out.*with iconv", record.getMessage())


def test_a_letter_cut_by_the_block_is_not_reported(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path.write_bytes((b"a" * (BLOCK_BYTES - 1)) + "é".encode() + b"b" * 9)
    Text.open([path], alphabet="ab", malformed="skip")
    Text.open([path], malformed="skip")
    assert not caplog.records


def test_a_compressed_text_in_another_encoding_is_recognized(path: Path) -> None:
    path.write_bytes(gzipped(LATIN.encode("latin-1")))
    expected = (
        r"looks like Latin-1\. Convert it: gzip -dc \S*book.txt \| iconv -f LATIN1 -t UTF-8 >"
    )
    with pytest.raises(StreamError, match=expected):
        Text.open([path])


def test_a_torn_letter_is_not_called_latin(path: Path) -> None:
    path.write_bytes(CONTENT.encode()[:-40] + b"\xc3" + CONTENT.encode())
    with pytest.raises(StreamError, match=r"not UTF-8\. Read it as bytes"):
        Text.open([path])


def test_noise_is_not_called_latin(path: Path) -> None:
    path.write_bytes(np.random.default_rng(0).bytes(999).replace(b"\0", b"a"))
    with pytest.raises(StreamError, match=r"not UTF-8\. Read it as bytes"):
        Text.open([path])


def test_a_zero_byte_is_a_letter_only_if_it_is_asked_for(path: Path) -> None:
    path.write_bytes(b"one two\0\0\0three\n" * 9)
    with pytest.raises(StreamError, match=r"byte 7 of .* is the character NUL.*binary or torn"):
        Text.open([path])
    assert Text.open([path], malformed="skip").alphabet == "\n ehnortw"
    for options in ({"encoding": "bytes"}, {"alphabet": "\0\n ehnortw"}):
        source = Text.open([path], laps=1, **options)  # type: ignore[arg-type]  # all are right
        assert _spell(source, source.stream(), 12) == "one two\0\0\0th"


def test_what_is_no_utf_16_is_named_or_left_out(path: Path) -> None:
    good = "abcabc".encode("utf-16-le")
    path.write_bytes(codecs.BOM_UTF16_LE + good + b"\x00\xd8" + good + b"\x00")
    with pytest.raises(StreamError, match=r"byte 6 of .*, is something that is not UTF-16LE\."):
        Text.open([path])
    source = Text.open([path], malformed="skip", laps=2)
    stream = source.stream()
    assert (source.alphabet, _spell(source, stream, 99)) == ("abc", ("abcabc" * 4)[:-1])
    assert stream.skipped == 3


@pytest.mark.parametrize("form", ["gzip", "UTF-16LE"])
def test_a_growing_file_is_not_converted(path: Path, form: str) -> None:
    path.write_bytes(READABLE[form](CONTENT))
    with pytest.raises(StreamError, match=rf"follow=True: expected plain UTF-8.*which is {form}"):
        Text.open([path], alphabet="ascii", follow=True)
    path.write_bytes(b"")
    stream = Text.open([path], alphabet="ascii", follow=True).stream()
    stream.waiting = lambda seconds: False  # type: ignore[union-attr]  # it grows
    assert stream.take(1) is None
    path.write_bytes(READABLE[form](CONTENT))
    with pytest.raises(StreamError, match=f"which is {form}"):
        stream.take(1)


def test_a_growing_file_may_begin_with_a_mark(path: Path) -> None:
    path.write_bytes(b"\xef")
    source = Text.open([path], alphabet="abc", follow=True)
    stream = source.stream()
    stream.waiting = lambda seconds: False  # type: ignore[union-attr]  # it grows
    assert stream.take(1) is None
    path.write_bytes(codecs.BOM_UTF8)
    assert stream.take(1) is None
    path.write_bytes(codecs.BOM_UTF8 + b"abc")
    assert _spell(source, stream, 9) == "ab"


@pytest.mark.parametrize(
    ("data", "encoding", "message"),
    [
        (gzipped(b"abc"), "bytes", r"got gzip. Convert it before it comes: gzip -dc"),
        (gzipped(b"abc"), "utf-8", "got gzip"),
        (READABLE["UTF-16LE"]("abcd"), "utf-8", r"got UTF-16LE.*iconv -f UTF-16LE -t UTF-8"),
        ("abcdefgh".encode("utf-16-le"), "utf-8", "UTF-16LE without a byte-order mark"),
    ],
)
@pytest.mark.parametrize("size", [1, 99])
def test_a_pipe_is_not_converted(data: bytes, encoding: Any, message: str, size: int) -> None:
    """However its bytes come, and however often it is asked."""
    if size == 1 and "without" in message:
        return  # The first byte is a letter.
    read, write = os.pipe()
    stream = Pipe(
        Alphabet.given("test", "bytes" if encoding == "bytes" else "abcd", encoding, "skip"), read
    ).stream()
    stream.waiting = lambda seconds: False
    told = None
    for start in range(0, len(data), size):
        os.write(write, data[start : start + size])
        try:
            assert stream.take(9) is None
        except StreamError as error:
            told = str(error)
    assert told is not None
    assert re.search(message, told)
    with pytest.raises(StreamError, match=message):
        stream.take(9)
    os.close(read)
    os.close(write)


@pytest.mark.parametrize("size", [1, 99])
def test_a_pipe_may_begin_with_a_mark(size: int) -> None:
    read, write = os.pipe()
    data = codecs.BOM_UTF8 + b"(abc("
    stream = Pipe(Alphabet.given("test", "(abc", "utf-8", "stop"), read).stream()
    stream.waiting = lambda seconds: False
    got: list[int] = []
    for start in range(0, len(data), size):
        os.write(write, data[start : start + size])
        items = stream.take(9)
        got += [] if items is None else items["symbol"].tolist()
    os.close(write)
    assert got == [0, 1, 2, 3]
    assert stream.position["source"]["byte"] == len(data)
    os.close(read)


@pytest.mark.parametrize("data", [b"", b"B", b"BZh"])
def test_what_may_begin_a_form_and_ends_is_text(data: bytes) -> None:
    read, write = os.pipe()
    stream = Pipe(Alphabet.given("test", "bytes", "bytes", "stop"), read).stream()
    os.write(write, data)
    os.close(write)
    items = stream.take(9)
    assert ([] if items is None else items["symbol"].tolist()) == list(data[:-1])
    os.close(read)


def test_an_empty_file_is_refused(path: Path) -> None:
    for data in (b"", codecs.BOM_UTF8, codecs.BOM_UTF16_LE, gzipped(b"")):
        path.write_bytes(data)
        with pytest.raises(StreamError, match="expected at least two characters, got 0"):
            Text.open([path])


@pytest.mark.parametrize(
    ("python", "flags"),
    [
        ("as bytes: encoding='bytes'; or", "as bytes: --encoding bytes; or"),
        ("out: malformed='skip'.", "out: --malformed skip."),
        ("follow=True: expected", "--follow: expected"),
        ("pass resume='continues'.", "pass --stdin continues."),
        ("got laps=3", "got --laps 3"),
        ("train(estimator='uoro')", "train(estimator='uoro')"),
        ("Text.open('a.txt', laps=-1): number", "--file 'a.txt', --laps -1: number"),
        ("Text.stream(follow=True): 'a.txt' is", "--file: 'a.txt' is"),
        ("Pipe.stream(): byte 3", "--file: byte 3"),
    ],
)
def test_the_command_line_spells_arguments_as_flags(python: str, flags: str) -> None:
    assert in_flags(python) == flags
