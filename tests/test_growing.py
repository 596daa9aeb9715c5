"""Text that is still being written: waited for, broken off, gone on with; nothing lost or twice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uoro import load_backend
from uoro.errors import SettingError, StreamError
from uoro.files.pipes import Resume
from uoro.learning.stream import SeekableStream
from uoro.learning.windows import Windows
from uoro.tasks import GrowingStream, Network, Pipe, Text, text
from uoro.tasks.alphabet import Alphabet, Malformed

LETTERS = "abcdefghij é是🎭\n"
MALFORMED: tuple[Malformed, ...] = ("stop", "skip")


def _alphabet(malformed: Malformed = "stop") -> Alphabet:
    return Alphabet.given("test", LETTERS, "utf-8", malformed)


class Writer:
    """One end of a pipe, and streams on the other."""

    def __init__(self, malformed: Malformed = "stop", resume: Resume = "restarts") -> None:
        self._read, self._write = os.pipe()
        self._options: Any = (_alphabet(malformed), self._read, resume)

    def stream(self) -> GrowingStream:
        stream = Pipe(*self._options).stream()
        stream.waiting = lambda seconds: False
        return stream

    def write(self, data: str | bytes) -> None:
        os.write(self._write, data.encode() if isinstance(data, str) else data)

    def close(self) -> None:
        if self._write >= 0:
            os.close(self._write)
            self._write = -1

    def end(self) -> None:
        self.close()
        os.close(self._read)


@pytest.fixture
def writer() -> Iterator[Writer]:
    """A pipe that leaves nothing open."""
    made = Writer()
    yield made
    made.end()


def _spell(items: Any, column: str = "symbol") -> str:
    return "" if items is None else "".join(LETTERS[i] for i in items[column])


def test_a_pipe_gives_what_is_there_without_waiting_for_more(writer: Writer) -> None:
    stream = writer.stream()
    assert isinstance(stream, SeekableStream)
    assert stream.take(5) is None, "nothing was written"
    writer.write("a")
    assert stream.take(5) is None, "the last character has no target yet"
    writer.write("bcd")
    items = stream.take(5)
    assert (_spell(items), _spell(items, "target")) == ("abc", "bcd")
    writer.write("efghij")
    assert _spell(stream.take(2)) == "de"
    writer.close()
    assert _spell(stream.take(100)) == "fghi"
    assert stream.take(1) is None
    assert stream.take(1) is None


def test_half_a_character_is_waited_for(writer: Writer) -> None:
    stream = writer.stream()
    spelt = ""
    for byte in "🎭é是a🎭".encode():
        writer.write(bytes([byte]))
        spelt += _spell(stream.take(9))
    assert spelt == "🎭é是a"


@pytest.mark.parametrize("malformed", MALFORMED)
def test_a_pipe_closed_within_a_character(malformed: Malformed) -> None:
    writer = Writer(malformed)
    stream = writer.stream()
    writer.write(b"ab" + "🎭".encode()[:2])
    writer.close()
    assert _spell(stream.take(9)) == "a"
    if malformed == "stop":
        with pytest.raises(StreamError, match="byte 2 begins the byte 0xf0, which is not UTF-8"):
            stream.take(9)
    else:
        assert stream.take(9) is None
        assert stream.skipped == 0, "what is counted was before the last symbol read"
    writer.end()


def test_it_waits_until_something_comes_and_says_how_long(writer: Writer) -> None:
    stream = writer.stream()
    told: list[float] = []

    def waiting(seconds: float) -> bool:
        told.append(seconds)
        if len(told) == 3:
            writer.write("ab")
        return True

    stream.waiting = waiting
    assert _spell(stream.take(4)) == "a"
    assert len(told) >= 3
    assert told == sorted(told)
    assert told[0] < told[-1]


def test_it_waits_for_another_thread(writer: Writer) -> None:
    stream = writer.stream()
    stream.waiting = _always
    content = "abcdéfg是\n" * 400

    def write() -> None:
        data = content.encode()
        for start in range(0, len(data), 37):
            writer.write(data[start : start + 37])
        writer.close()

    thread = threading.Thread(target=write)
    thread.start()
    parts = []
    while (items := stream.take(256)) is not None:
        parts.append(_spell(items))
    thread.join()
    assert "".join(parts) == content[:-1]


def _always(seconds: float) -> bool:
    return True


@pytest.mark.parametrize("resume", ["restarts", "continues"])
@given(st.text(LETTERS, max_size=60), st.lists(st.tuples(st.integers(0, 9), st.integers(1, 9))))
@settings(max_examples=30, deadline=None)
def test_a_pipe_goes_on_where_it_was_stopped(
    resume: Resume, content: str, turns: list[tuple[int, int]]
) -> None:
    data, written, spelt = content.encode(), 0, ""
    writer = Writer(resume=resume)
    stream = writer.stream()
    for bytes_more, count in turns:
        writer.write(data[written : written + bytes_more])
        written += min(bytes_more, len(data) - written)
        spelt += _spell(stream.take(count))
        position = json.loads(json.dumps(stream.position))
        if resume == "restarts":
            writer.end()
            writer = Writer(resume=resume)
            writer.write(data[:written])
        stream = writer.stream()
        stream.seek(position)
        if resume == "continues":
            assert stream.position == position
    writer.write(data[written:])
    writer.close()
    while (items := stream.take(7)) is not None:
        spelt += _spell(items)
    assert spelt == content[:-1]
    writer.end()


def test_a_pipe_that_restarts_must_bring_the_same_bytes(writer: Writer) -> None:
    writer.write("abcdefgh")
    stream = writer.stream()
    stream.take(5)
    position = stream.position
    for content, message in (
        ("abcdXfgh", "the 6 bytes read before, but they are others now"),
        ("abcd", "the 6 bytes read before, but it ended after 4"),
    ):
        other = Writer()
        other.write(content)
        other.close()
        with pytest.raises(StreamError, match=rf"{message}.*resume='continues'"):
            other.stream().seek(position)
        other.end()


def test_catching_up_can_be_broken_off_too(writer: Writer) -> None:
    writer.write("abcdefgh")
    stream = writer.stream()
    stream.take(5)
    position = stream.position
    other = Writer()
    again = other.stream()
    other.write("abc")
    again.seek(position)
    assert again.position == position
    assert again.take(4) is None
    assert again.position == position
    other.write("defghij")
    assert _spell(again.take(9)) == "fghi"
    with pytest.raises(StreamError, match="A pipe does not go back"):
        again.seek(position)
    other.end()


def test_a_pipe_that_continues_is_sent_on_before_it_is_read() -> None:
    writer = Writer(resume="continues")
    writer.write("abc")
    stream = writer.stream()
    stream.take(1)
    with pytest.raises(StreamError, match="expected a new stream, got one that was read already"):
        stream.seek(
            {
                "held": [],
                "source": dict.fromkeys(("byte", "checksum", "skipped"), 7) | {"unread": ""},
            }
        )
    stream.seek(stream.position)
    writer.end()


@pytest.mark.parametrize("unread", [None, "f", "F0", "f0 ", "zz"])
def test_what_is_no_position_of_a_pipe_is_refused(writer: Writer, unread: Any) -> None:
    stream = writer.stream()
    source = {"byte": 1, "checksum": 0, "skipped": 0, "unread": unread}
    with pytest.raises(StreamError, match=r"Pipe.seek\(.*expected .*a dict of 'byte'"):
        stream.seek({"held": [], "source": source})
    with pytest.raises(StreamError, match="an integer >= 0 as 'byte'"):
        stream.seek({"held": [], "source": source | {"unread": "", "byte": -1}})


def test_what_is_malformed_in_a_pipe_is_named_or_left_out() -> None:
    for malformed in MALFORMED:
        writer = Writer(malformed)
        writer.write(b"abc\xff\xc3dXef.g")
        stream = writer.stream()
        assert _spell(stream.take(2)) == "ab"
        if malformed == "stop":
            with pytest.raises(StreamError, match=r"byte 3 begins the byte 0xff, which is not"):
                stream.take(9)
        else:
            assert _spell(stream.take(9)) == "cdef"
            assert stream.skipped == stream.position["source"]["skipped"] == 4
        writer.end()


def test_a_position_of_a_pipe_holds_what_was_read_too_early() -> None:
    writer = Writer(resume="continues")
    writer.write("abcdefgh")
    stream = writer.stream()
    stream.take(2)
    position = stream.position
    assert bytes.fromhex(position["source"]["unread"]) == b"defgh"
    writer.write("ij")
    stream = writer.stream()
    stream.seek(position)
    assert _spell(stream.take(3)) == "cde"
    assert _spell(stream.take(9)) == "fghi"
    writer.end()


def test_windows_of_a_pipe_are_whole_and_no_item_is_lost(writer: Writer) -> None:
    backend = load_backend("autograd")
    windows = Windows(backend, writer.stream(), 3)
    writer.write("abcde")
    assert windows.take(5)["symbol"].shape == (1, 3)
    assert windows.position["held"] == [LETTERS.index(letter) for letter in "de"]
    writer.write("fgh")
    assert _spell({"symbol": windows.take(5)["symbol"][0]}) == "def"
    assert windows.take(5) is None
    writer.close()
    assert windows.take(5) is None, "a window that stays too short is dropped"


def _follow(path: Path, **options: Any) -> GrowingStream:
    stream = Text.open([path], alphabet=LETTERS, follow=True, **options).stream()
    assert isinstance(stream, GrowingStream)
    stream.waiting = lambda seconds: False
    return stream


def _append(path: Path, data: str | bytes) -> None:
    with path.open("ab") as file:
        file.write(data.encode() if isinstance(data, str) else data)


def test_a_file_that_grows_is_followed(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("ab")
    stream = _follow(path)
    spelt = _spell(stream.take(9))
    for byte in "cé是🎭d".encode():
        _append(path, bytes([byte]))
        spelt += _spell(stream.take(9))
        position = json.loads(json.dumps(stream.position))
        stream = _follow(path)
        stream.seek(position)
    assert spelt == "abcé是🎭"


def test_a_file_is_followed_while_another_thread_writes(tmp_path: Path) -> None:
    path, content = tmp_path / "log", "abcdéfg是🎭\n" * 2000
    path.write_bytes(b"")
    stream = _follow(path)
    stream.waiting = _always
    data = content.encode()

    def write() -> None:
        with path.open("ab", buffering=0) as file:
            for start in range(0, len(data), 997):
                file.write(data[start : start + 997])

    thread = threading.Thread(target=write)
    thread.start()
    spelt = ""
    while len(spelt) < len(content) - 1:
        spelt += _spell(stream.take(4000))
    thread.join()
    assert spelt == content[:-1]


def test_a_followed_file_that_is_cut_or_replaced_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "log"

    def begin() -> GrowingStream:
        path.write_text("abcdef" * 10)
        stream = _follow(path)
        stream.take(100)
        return stream

    stream = begin()
    path.write_text("abc")
    with pytest.raises(StreamError, match="60 bytes or more, got 3 bytes now"):
        stream.take(1)
    stream = begin()
    path.write_text("fedcba" * 20)
    with pytest.raises(StreamError, match=r"as it was read, got other bytes before byte 60"):
        stream.take(1)
    stream = begin()
    path.rename(tmp_path / "log.1")
    with pytest.raises(StreamError, match="No such file"):
        stream.take(1)
    path.write_text("abcdef" * 20)
    with pytest.raises(StreamError, match=r"another file now, as when a log is rotated\. 60 bytes"):
        stream.take(1)
    old = _follow(tmp_path / "log.1")
    old.seek(stream.position)
    _append(tmp_path / "log.1", "gh")
    assert _spell(old.take(9)) == "fg"


def test_what_is_malformed_in_a_file_is_named_or_left_out(tmp_path: Path) -> None:
    path = tmp_path / "book"
    path.write_bytes(b"abc\xff\xc3dXef.")
    source = Text.open([path], alphabet=LETTERS)
    stream = source.stream()
    assert _spell(stream.take(9)) == "ab"
    with pytest.raises(StreamError, match=r"byte 3 of .*book' begins the byte 0xff, .*'skip'"):
        stream.take(9)
    source = Text.open([path], alphabet=LETTERS, malformed="skip", laps=2)
    stream = source.stream()
    assert _spell(stream.take(3)) == "abc"
    assert stream.skipped == 2, "up to the last symbol read, which is the target"
    position = json.loads(json.dumps(stream.position))
    stream = source.stream()
    stream.seek(position)
    assert stream.skipped == 2
    assert _spell(stream.take(100)) == "defabcde"
    assert stream.take(1) is None
    assert stream.skipped == 7
    position["source"]["lap"] = 2
    with pytest.raises(StreamError, match="a 'lap' below 2"):
        stream.seek(position)


def test_alphabets_by_name_need_no_reading_beforehand(tmp_path: Path) -> None:
    path = tmp_path / "book"
    path.write_bytes(bytes(range(256)))
    source = Text.open([path], encoding="bytes", alphabet="bytes", laps=1)
    assert source.stream().take(1000)["symbol"].tolist() == list(range(255))
    path.write_text("\tA~\n")
    stream = Text.open([path], alphabet="ascii").stream()
    assert stream.take(4)["symbol"].tolist() == [0, 2 + 33, 96, 1]
    assert len(Text.open([path], alphabet="ascii").alphabet) == 97
    found = Text.open([path], laps=1)
    assert len(found.stream().take(100)["symbol"]) == 3
    path.write_bytes(b"a\xffb\xffa")
    assert Text.open([path], malformed="skip").alphabet == "ab"


@pytest.mark.parametrize(
    ("names", "options", "message"),
    [
        (["-"], {}, "alphabet: expected .*, got None.*encoding='bytes'"),
        (["book"], {"follow": True}, "alphabet: expected 'ascii' or all symbols, got None"),
        (["-", "book"], {"alphabet": "ascii"}, "expected '-' alone, got 2 paths"),
        (
            ["-"],
            {"alphabet": "ascii", "laps": 2},
            "expected no laps and no follow with standard input",
        ),
        (
            ["-"],
            {"alphabet": "ascii", "resume": "again"},
            "resume: expected one of 'restarts', 'continues', got 'again'",
        ),
        (
            ["book", "book"],
            {"alphabet": "ascii", "follow": True},
            "expected one file and no laps, got 2 files",
        ),
        (["book"], {"alphabet": "bytes"}, "expected encoding='bytes', got 'utf-8'"),
        (["book"], {"alphabet": "abca"}, "expected each symbol once, got 'a' twice"),
        (
            ["book"],
            {"alphabet": "是a", "encoding": "bytes"},
            "expected symbols of encoding='bytes', got '是'",
        ),
        (["book"], {"alphabet": "a"}, "at least two symbols, got 'a'"),
        (["book"], {"laps": 0}, r"laps=0\): number of laps: expected an integer >= 1"),
        (
            ["book"],
            {"malformed": "ignore"},
            "malformed: expected one of 'stop', 'skip', got 'ignore'",
        ),
        (
            ["book"],
            {"encoding": "latin-1"},
            "encoding: expected one of 'utf-8', 'bytes', got 'latin-1'",
        ),
    ],
)
def test_choices_that_do_not_go_together_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: Any, options: Any, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("book").write_text("abc")
    with pytest.raises(SettingError, match=message):
        text(names, **options)


def test_a_task_records_how_its_text_is_read(tmp_path: Path) -> None:
    path = tmp_path / "book"
    path.write_text("abc")
    task = text([path], alphabet="ascii", laps=3, malformed="skip", network=Network(units=2))
    assert task.settings["laps"] == 3
    assert task.settings["malformed"] == "skip"
    assert task.settings["follow"] is False
    task = text(["-"], encoding="bytes", network=Network(units=2))
    assert task.settings["files"] == ["-"]
    assert len(task.settings["alphabet"]) == 256
    assert json.loads(json.dumps(task.settings)) == task.settings


PROGRAM = """
import zlib
from uoro.tasks import text
stream = text(["-"], alphabet="ascii").stream(0)
source = {"byte": 3, "checksum": zlib.crc32(b"abc"), "skipped": 0, "unread": ""}
stream.seek({"held": [2 + ord("c") - 32], "source": source})
print("".join(chr(30 + i) for i in stream.take(9)["symbol"]))
"""


@pytest.mark.parametrize("regular", [True, False])
def test_standard_input_may_be_a_file_or_a_pipe(tmp_path: Path, regular: bool) -> None:
    path = tmp_path / "book"
    path.write_text("abcdef")
    with path.open("rb") as file:
        told: dict[str, Any] = {"stdin": file} if regular else {"input": path.read_bytes()}
        command = [sys.executable, "-c", PROGRAM]
        done = subprocess.run(command, capture_output=True, check=True, **told)
    assert done.stdout.decode() == "cde\n"


def test_a_large_pipe_is_read_in_blocks(tmp_path: Path) -> None:
    content = np.random.default_rng(0).choice(list("abcdefghij"), 300_000)
    path = tmp_path / "book"
    path.write_text("".join(content))
    descriptor = os.open(path, os.O_RDONLY)
    stream = Pipe(_alphabet(), descriptor).stream()
    assert _spell(stream.take(250_000)) == "".join(content[:250_000])
    os.close(descriptor)
