"""Checkpoints come back bit for bit, or are refused; a folder always has a whole one."""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import math
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import safetensors
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors import numpy as safetensors_numpy

from uoro.checkpoint import (
    Checkpoints,
    Snapshot,
    is_locked,
    lock_holder,
    read_checkpoint,
    run_lock,
    write_checkpoint,
)
from uoro.checkpoint.header import BEGINNING, PLACE, ZEROS
from uoro.errors import CheckpointError, LockedError, SettingError, StructureError

SMALL = {
    "params/0/gates": np.linspace(-1.0, 1.0, 12).reshape(3, 4),
    "state/0/h": np.array([1e-300, -0.0, np.nan]),
    "carry/tangent": np.array([[1 + 2j, -3j]], np.complex64),
    "step": np.array(7, np.int64),
    "mask": np.array([True, False]),
    "nothing": np.zeros((0, 5), np.float16),
}
DTYPES = ["bool", *(f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64))]
DTYPES += ["float16", "float32", "float64", "complex64", "complex128"]


def _snapshot(step: int) -> Snapshot:
    arrays = SMALL | {"step": np.array(step, np.int64)}
    return Snapshot(arrays, {"step": step, "rate": 0.1, "worst": math.inf})


def _same(found: np.ndarray[Any, Any], wanted: np.ndarray[Any, Any]) -> bool:
    return (found.dtype, found.shape) == (wanted.dtype, wanted.shape) and (
        found.tobytes() == wanted.tobytes()
    )


def _is_snapshot(found: Snapshot, step: int) -> bool:
    wanted = _snapshot(step)
    return found.document == wanted.document and all(
        _same(found.arrays[name], wanted.arrays[name]) for name in wanted.arrays
    )


def _forge(header: bytes, data: bytes = b"") -> bytes:
    """Make a file with a true checksum of whatever header, which has zeros in its place."""
    whole = len(header).to_bytes(8, "little") + header + data
    digest = hashlib.blake2b(whole, digest_size=32).hexdigest().encode()
    return whole[:PLACE] + digest + whole[PLACE + 64 :]


# Round trips.

arrays = hnp.arrays(
    dtype=st.sampled_from(DTYPES).map(np.dtype),
    shape=hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4),
)
names = st.text(st.characters(exclude_categories=["Cs"]), max_size=12).filter(
    lambda name: name != "__metadata__"
)
documents = st.dictionaries(
    st.text(),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=8,
    ),
    max_size=4,
)


def _bits(value: Any) -> Any:
    """Make values comparable so that NaN is NaN, -0.0 is not 0.0, and 1 is neither 1.0 nor True."""
    if isinstance(value, dict):
        return {name: _bits(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_bits(item) for item in value]
    return (type(value).__name__, repr(value))


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(names, arrays, max_size=4), documents)
def test_arrays_and_document_come_back_bit_for_bit(
    tmp_path_factory: pytest.TempPathFactory,
    arrays: dict[str, np.ndarray[Any, Any]],
    document: dict[str, Any],
) -> None:
    path = tmp_path_factory.getbasetemp() / "round-trip.safetensors"
    write_checkpoint(path, Snapshot(arrays, document))
    found = read_checkpoint(path)
    assert set(found.arrays) == set(arrays)
    for name, array in arrays.items():
        assert _same(found.arrays[name], array), (name, array, found.arrays[name])
        assert found.arrays[name].flags.writeable
    assert _bits(found.document) == _bits(document)
    assert found.widened == {}


@settings(max_examples=50, deadline=None)
@given(arrays, st.integers(0, 5))
def test_arrays_that_are_not_contiguous_come_back_as_they_look(
    tmp_path_factory: pytest.TempPathFactory, array: np.ndarray[Any, Any], how: int
) -> None:
    views = [
        array.T, array[::-1] if array.ndim else array, np.broadcast_to(array, (2, *array.shape)),
        np.asfortranarray(array), array.astype(array.dtype.newbyteorder(">")), array[..., ::2]
        if array.ndim else array,
    ]  # fmt: skip
    path = tmp_path_factory.getbasetemp() / "view.safetensors"
    write_checkpoint(path, Snapshot({"a": views[how]}, {}))
    found = read_checkpoint(path).arrays["a"]
    assert _same(found, views[how].astype(array.dtype, order="C"))


@pytest.mark.parametrize("kind", ["f4", "f8", "c8", "c16", "i4", "u2"])
def test_arrays_of_the_other_byte_order_keep_their_numbers(tmp_path: Path, kind: str) -> None:
    array = np.arange(1, 7).reshape(2, 3).astype(f">{kind}")
    write_checkpoint(tmp_path / "a", Snapshot({"a": array}, {}))
    assert _same(read_checkpoint(tmp_path / "a").arrays["a"], array.astype(f"<{kind}"))


@pytest.mark.parametrize("kind", ["bfloat16", "float8_e4m3fn", "float8_e5m2", "float8_e8m0fnu"])
def test_floats_of_other_kinds_come_back_as_float32_which_holds_them(
    tmp_path: Path, kind: str
) -> None:
    dtype = np.dtype(getattr(ml_dtypes, kind))
    count = 2 ** (8 * dtype.itemsize)
    every = np.arange(count, dtype=f"u{dtype.itemsize}").view(dtype)
    write_checkpoint(tmp_path / "a", Snapshot({"a": every, "b": np.ones(2)}, {}))
    found = read_checkpoint(tmp_path / "a")
    assert found.widened == {"a": kind}
    assert found.arrays["a"].dtype == np.float32
    with np.errstate(invalid="ignore"):
        missing = np.isnan(every.astype(np.float32))
    assert found.arrays["a"][~missing].astype(dtype).tobytes() == every[~missing].tobytes()
    assert bool(np.isnan(found.arrays["a"][missing]).all())


def test_any_reader_of_safetensors_opens_a_checkpoint(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "a", _snapshot(3))
    with safetensors.safe_open(tmp_path / "a", framework="np") as file:
        assert set(file.keys()) == set(SMALL)
        assert _same(file.get_tensor("params/0/gates"), SMALL["params/0/gates"])
        assert file.get_tensor("carry/tangent").shape == (1, 2, 2)
        about = json.loads(file.metadata()["uoro"])
    assert (about["format"], about["document"]["step"]) == (1, 3)


def test_equal_snapshots_make_equal_files(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_checkpoint(tmp_path / name, _snapshot(3))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_the_checksum_is_blake2b_of_the_file_with_zeros_in_its_place(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "a", _snapshot(3))
    written = (tmp_path / "a").read_bytes()
    checksum = written[PLACE : PLACE + 64]
    zeroed = written.replace(checksum, b"0" * 64)
    assert hashlib.blake2b(zeroed, digest_size=32).hexdigest().encode() == checksum


@pytest.mark.parametrize(
    ("arrays", "document", "message"),
    [
        ({"a": np.array(["x"])}, {}, "array 'a': expected booleans.*got dtype <U1"),
        ({"a": np.array([object()])}, {}, "array 'a': expected booleans.*got dtype object"),
        ({"a": np.zeros(2, np.longdouble)}, {}, "numbers of at most 64 bits.*, got dtype"),
        ({"a": np.zeros(2, "datetime64[s]")}, {}, "numbers of at most 64 bits.*, got dtype"),
        ({"a": np.zeros(2, [("x", "f4")])}, {}, "numbers of at most 64 bits.*, got dtype"),
        ({"__metadata__": np.ones(2)}, {}, "as the name of an array, got '__metadata__'"),
        ({"\ud800": np.ones(2)}, {}, "expected text as the name of an array"),
        ({1: np.ones(2)}, {}, "as the name of an array, got 1"),
        ({}, {1: 2}, "document: expected text as a key, got 1"),
        ({}, {"a": [{"b": np.int64(1)}]}, r"document\['a'\]\[0\]\['b'\]: .*got a int64.*item\(\)"),
        ({}, {"a": "y" * 17_000_000}, "more than 16,777,216 bytes"),
    ],
)
def test_what_cannot_be_written_is_refused_and_nothing_is_left(
    tmp_path: Path, arrays: Any, document: Any, message: str
) -> None:
    with pytest.raises(StructureError, match=message):
        write_checkpoint(tmp_path / "a", Snapshot(arrays, document))
    assert list(tmp_path.iterdir()) == []


def test_a_document_that_contains_itself_is_refused(tmp_path: Path) -> None:
    document: dict[str, Any] = {}
    document["inner"] = document
    with pytest.raises(StructureError, match="nested too deeply"):
        write_checkpoint(tmp_path / "a", Snapshot({}, document))


# Damage.


def test_no_flipped_bit_and_no_length_is_accepted(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write_checkpoint(path, Snapshot({"a": np.arange(3.0), "b": np.zeros(())}, {"step": 1}))
    whole = path.read_bytes()
    assert len(whole) < 450
    for at in range(8 * len(whole)):
        damaged = bytearray(whole)
        damaged[at // 8] ^= 1 << at % 8
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError, match=r"read_checkpoint\(.*\): it"):
            read_checkpoint(path)
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match=r"read_checkpoint\(.*\): it"):
            read_checkpoint(path)
    path.write_bytes(whole)
    assert read_checkpoint(path).document == {"step": 1}


def _flip(whole: bytes, generator: np.random.Generator) -> bytes:
    damaged = bytearray(whole)
    for at in generator.integers(0, 8 * len(whole), generator.integers(1, 4)):
        damaged[at // 8] ^= 1 << at % 8
    return bytes(damaged)


def _cut(whole: bytes, generator: np.random.Generator) -> bytes:
    return whole[: generator.integers(0, len(whole))]


def _zero(whole: bytes, generator: np.random.Generator) -> bytes:
    size = int(generator.choice([1, 16, 64, 512]))
    begin = int(generator.integers(0, len(whole)))
    return whole[:begin] + bytes(len(whole[begin : begin + size])) + whole[begin + size :]


def _append(whole: bytes, generator: np.random.Generator) -> bytes:
    return whole + generator.bytes(int(generator.integers(1, 100)))


def _swap(whole: bytes, generator: np.random.Generator) -> bytes:
    size = int(generator.choice([1, 8, 64]))
    first, second = sorted(generator.integers(0, len(whole) // size, 2) * size)
    damaged = bytearray(whole)
    damaged[first : first + size] = whole[second : second + size]
    damaged[second : second + size] = whole[first : first + size]
    return bytes(damaged)


def _other(whole: bytes, generator: np.random.Generator) -> bytes:
    """Give a file of somebody else, much like ours or not at all."""
    foreign = [
        b"",
        generator.bytes(int(generator.integers(1, 2000))),
        safetensors_numpy.save({"a": generator.standard_normal(5)}),
        safetensors_numpy.save({"a": np.ones(3)}, metadata={"format": "pt"}),
        safetensors_numpy.save({"a": np.ones(3)}, metadata={"uoro": '{"checksum":"0"}'}),
        b"\x80\x04\x95" + generator.bytes(50),
        bytes(len(whole)),
        b"\xff" * len(whole),
        whole[8:],
        whole[:8] + whole,
    ]
    return foreign[generator.integers(len(foreign))]


def test_a_thousand_damaged_checkpoints_are_refused_or_the_one_before_is_found(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    generator = np.random.default_rng(0)
    checkpoints = Checkpoints(tmp_path)
    before, last = (checkpoints.save(step, _snapshot(step)) for step in (41, 42))
    whole = last.read_bytes()
    kinds: list[Callable[[bytes, np.random.Generator], bytes]]
    kinds = [_flip, _cut, _zero, _append, _swap, _other]
    done = 0
    with caplog.at_level(logging.WARNING, "uoro"):
        while done < 1000:
            damaged = kinds[done % len(kinds)](whole, generator)
            if damaged == whole:
                continue
            last.write_bytes(damaged)
            with pytest.raises(CheckpointError):
                read_checkpoint(last)
            caplog.clear()
            found = checkpoints.latest()
            assert found is not None
            assert (found.path, _is_snapshot(found.snapshot, 41)) == (before, True)
            assert [path for path, _ in found.damaged] == [last]
            (logged,) = caplog.messages
            assert last.name in logged
            assert logged.endswith(f"Using {before.name} instead.")
            done += 1


def test_a_folder_in_place_of_a_checkpoint_is_passed_over(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    first = checkpoints.save(1, _snapshot(1))
    (tmp_path / "step-000000000002.safetensors").mkdir()
    found = checkpoints.latest()
    assert found is not None
    assert found.path == first
    assert "it is no file" in str(found.damaged[0].error)


def test_a_pipe_in_place_of_a_checkpoint_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(CheckpointError, match="it is no file"):
        read_checkpoint(tmp_path / "pipe")


def test_where_no_checkpoint_is_whole_the_error_says_what_is_wrong_with_each(
    tmp_path: Path,
) -> None:
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.latest() is None
    first, second = (checkpoints.save(step, _snapshot(step)) for step in (1, 2))
    first.write_bytes(first.read_bytes()[:-1])
    second.write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"none of 2 checkpoints is whole") as caught:
        checkpoints.latest()
    assert "cut short" in str(caught.value)
    assert "has 0 bytes" in str(caught.value)
    assert isinstance(caught.value, OSError)


def _header(entries: str = "", *, about: str | None = None, tail: str = "}") -> bytes:
    about = about or '\\",\\"format\\":1,\\"document\\":{},\\"dtypes\\":{}}'
    return BEGINNING + ZEROS + about.encode() + b'"}' + entries.encode() + tail.encode()


def _entry(dtype: str = "F64", shape: str = "[1]", offsets: str = "[0,8]") -> str:
    return f',"a":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}'


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (_header(about='\\",\\"format\\":2}'), "format is 2, and this version.*newer uoro"),
        (_header(about='\\",\\"format\\":0}'), "not those of format 1"),
        (_header(about='\\",\\"format\\":true}'), "not those of format 1"),
        (_header(about='\\",\\"format\\":1,\\"format\\":1}'), "twice"),
        (_header(about='\\",\\"format\\":1,\\"document\\":[],\\"dtypes\\":{}}'), "not those of"),
        (
            _header(
                about='\\",\\"format\\":1,\\"document\\":{},\\"dtypes\\":{\\"b\\":\\"bfloat16\\"}}'
            ),
            "no such arrays",
        ),
        (
            _header(
                _entry(),
                about='\\",\\"format\\":1,\\"document\\":{},\\"dtypes\\":{\\"a\\":\\"complex64\\"}}',
            ),
            "not pairs",
        ),
        (
            _header(about='\\",\\"format\\":1,\\"document\\":' + "[" * 100_000),
            "cannot be read",
        ),
        (_header(about='\\",\\"format\\":1' + "0" * 5000), "cannot be read"),
        (_header(',"a":' + "[" * 200_000), "cannot be read"),
        (_header(_entry() + _entry()), "twice"),
        (_header(_entry(shape="[NaN]")), "NaN is no number"),
        (_header(_entry(dtype="F8_E5M2", shape="[0]", offsets="[0,0]")), "arrays cannot be read"),
        (_header(_entry(dtype="object", shape="[0]", offsets="[0,0]")), "arrays cannot be read"),
        (_header(_entry(shape="[-1]")), "arrays cannot be read"),
        (_header(_entry(shape="[true]")), "arrays cannot be read"),
        (_header(_entry(shape="[1.0]")), "arrays cannot be read"),
        (
            _header(_entry(shape="[9223372036854775807,9223372036854775807]")),
            "arrays cannot be read",
        ),
        (_header(_entry(shape="[" + ",".join("1" * 65) + "]")), "arrays cannot be read"),
        (_header(_entry(offsets="[8,0]")), "8 more than its header says"),
        (_header(_entry(offsets="[8,16]")), "cut short"),
        (_header(_entry(shape="[0]", offsets="[8,8]")), "arrays cannot be read"),
        (_header(_entry(offsets="[0.0,8.0]")), "arrays cannot be read"),
        (_header(_entry(offsets="[0,null]")), "header is damaged"),
        (_header(_entry(offsets="[0,1e999]")), "header is damaged"),
        (_header(_entry(shape="[1099511627776]", offsets="[0,8796093022208]")), "cut short"),
        (_header(',"a":1'), "header is damaged"),
        (_header(tail=""), "cannot be read"),
        (_header(tail="}}"), "cannot be read"),
        (_header(',"\ud83d":1'.encode("utf-8", "surrogatepass").decode("latin-1")), "damaged"),
    ],
)
def test_headers_made_to_mislead_are_refused_though_their_checksum_is_right(
    tmp_path: Path, header: bytes, message: str
) -> None:
    (tmp_path / "a").write_bytes(_forge(header, bytes(8 if b'"F64"' in header else 0)))
    with pytest.raises(CheckpointError, match=message):
        read_checkpoint(tmp_path / "a")


def test_a_header_of_any_length_is_refused_without_making_room_for_it(tmp_path: Path) -> None:
    for length in (2**64 - 1, 2**63, 2**40, 10**9, 2**24 + 1):
        with open(tmp_path / "a", "wb") as file:
            file.write(length.to_bytes(8, "little") + BEGINNING + ZEROS)
            file.truncate(2**34)  # a hole, of 16 GiB
        with pytest.raises(CheckpointError, match=r"its header alone has|and the longest"):
            read_checkpoint(tmp_path / "a")


def test_bytes_after_the_end_are_refused_though_the_checksum_counts_them(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(_forge(_header(_entry()), bytes(16)))
    with pytest.raises(CheckpointError, match="8 more than its header says"):
        read_checkpoint(tmp_path / "a")


def test_the_files_made_to_mislead_would_be_read_if_they_were_right(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(_forge(_header(_entry()), np.ones(1).tobytes()))
    assert read_checkpoint(tmp_path / "a").arrays["a"].tolist() == [1.0]


# The folder.


def test_the_last_few_are_kept_and_other_files_are_left_alone(tmp_path: Path) -> None:
    foreign = ["notes.txt", "step-1.safetensors", "step-00000000000000.safetensors", ".x.part"]
    for name in foreign:
        (tmp_path / name).write_text("mine")
    checkpoints = Checkpoints(tmp_path, keep=2)
    for step in (5, 10, 123_456_789_012_345, 123_456_789_012_346):
        written = checkpoints.save(step, _snapshot(step))
        assert checkpoints.paths()[-1] == written
    assert [path.name for path in checkpoints.paths()] == [
        "step-123456789012345.safetensors",
        "step-123456789012346.safetensors",
    ]
    assert all((tmp_path / name).read_text() == "mine" for name in foreign)


def test_the_one_just_written_stays_and_later_ones_go_first(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=2)
    for step in (10, 30):
        checkpoints.save(step, _snapshot(step))
    checkpoints.save(20, _snapshot(20))
    found = checkpoints.latest()
    assert found is not None
    assert _is_snapshot(found.snapshot, 20)
    assert len(checkpoints.paths()) == 2


def test_one_that_cannot_be_removed_is_logged_and_not_fatal(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoints = Checkpoints(tmp_path, keep=1)
    (tmp_path / "step-000000000001.safetensors").mkdir()
    with caplog.at_level(logging.WARNING, "uoro"):
        checkpoints.save(2, _snapshot(2))
    assert "cannot be removed" in caplog.text


def test_a_reader_finds_one_even_while_a_run_removes_what_it_is_about_to_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from uoro.checkpoint import folder as folder_module

    checkpoints, writer = Checkpoints(tmp_path, keep=1), Checkpoints(tmp_path, keep=1)
    writer.save(1, _snapshot(1))
    steps = iter((2, 3))

    def read(path: Path) -> Snapshot:
        for step in steps:
            writer.save(step, _snapshot(step))
            break
        return read_checkpoint(path)

    monkeypatch.setattr(folder_module, "read_checkpoint", read)
    found = checkpoints.latest()
    assert found is not None
    assert (_is_snapshot(found.snapshot, 3), found.damaged) == (True, [])


def test_a_folder_is_not_made_by_looking_and_settings_out_of_range_are_refused(
    tmp_path: Path,
) -> None:
    assert Checkpoints(tmp_path / "none").latest() is None
    assert not (tmp_path / "none").exists()
    with pytest.raises(SettingError, match="keep"):
        Checkpoints(tmp_path, keep=0)
    with pytest.raises(SettingError, match="at least 0"):
        Checkpoints(tmp_path).save(-1, _snapshot(1))
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="cannot be read: Not a directory"):
        Checkpoints(tmp_path / "file")
    with pytest.raises(CheckpointError, match="can be written, got: Is a directory"):
        write_checkpoint(tmp_path, _snapshot(1))
    assert not list(tmp_path.parent.glob(".*.part"))


def test_what_killed_writers_left_is_removed_but_not_what_living_ones_write(tmp_path: Path) -> None:
    host = socket.gethostname()
    with subprocess.Popen([sys.executable, "-c", "pass"]) as ended:
        ended.wait()
    name = ".step-000000000001.safetensors."
    dead = tmp_path / f"{name}{host}-{ended.pid}-0123abcd.part"
    ours_before = tmp_path / f"{name}{host}-{os.getpid()}-0123abcd.part"
    stale = tmp_path / f"{name}elsewhere-1-0123abcd.part"
    alive = tmp_path / f"{name}{host}-{os.getppid()}-0123abcd.part"
    elsewhere = tmp_path / f"{name}elsewhere-2-0123abcd.part"
    foreign = tmp_path / f".notes.{host}-{ended.pid}-0123abcd.part"
    for path in (dead, ours_before, stale, alive, elsewhere, foreign):
        path.write_text("half")
    os.utime(stale, (time.time() - 7200,) * 2)
    Checkpoints(tmp_path)
    assert set(tmp_path.iterdir()) == {alive, elsewhere, foreign}


# The system failing, at every one of its calls.

CALLS = ("open", "write", "fsync", "close", "replace", "unlink", "mkdir", "listdir")


class _KilledError(BaseException):
    """The process is gone: nothing that comes after it happens."""


@contextmanager
def _failing(at: int, failure: BaseException, *, after: bool) -> Iterator[list[str]]:
    """Let the call of that number fail, before or after it has done its work, or half of it.

    After a kill every other call fails as well.
    """
    made: list[str] = []
    real = {name: getattr(os, name) for name in CALLS}

    def make(name: str) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            made.append(name)
            dead = isinstance(failure, _KilledError)
            if len(made) - 1 == at or (dead and len(made) > at):
                first = len(made) - 1 == at
                if first and name == "write":
                    real["write"](arguments[0], arguments[1][: len(arguments[1]) // 2])
                elif (first and after) or name == "close":
                    real[name](*arguments, **options)
                raise failure
            return real[name](*arguments, **options)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for name in CALLS:
            patch.setattr(os, name, make(name))
        yield made


def _with_two(folder: Path) -> Checkpoints:
    checkpoints = Checkpoints(folder, keep=2)
    for step in (1, 2):
        checkpoints.save(step, _snapshot(step))
    return checkpoints


@pytest.mark.parametrize("place", [3, 2], ids=["a new step", "the same step again"])
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("kind", ["no room", "killed"])
def test_a_failure_at_any_call_of_the_system_leaves_the_old_or_the_new_one_whole(
    tmp_path: Path, kind: str, after: bool, place: int
) -> None:
    no_room = OSError(errno.ENOSPC, "No space left on device")
    failure = no_room if kind == "no room" else _KilledError()
    checkpoints = _with_two(tmp_path / "none")
    with _failing(-1, no_room, after=after) as calls:
        checkpoints.save(place, _snapshot(3))
    outcomes = set()
    for at, name in enumerate(calls):
        folder = tmp_path / str(at)
        checkpoints = _with_two(folder)
        raised: type[BaseException] | None = None
        with _failing(at, failure, after=after) as made:
            try:
                checkpoints.save(place, _snapshot(3))
            except (CheckpointError, _KilledError) as error:
                raised = type(error)
        assert raised in (None, CheckpointError if kind == "no room" else _KilledError)
        assert made[: at + 1] == calls[: at + 1]
        if kind == "no room":
            assert not list(folder.glob(".*")), (at, made)
        again = Checkpoints(folder, keep=2)
        assert not list(folder.glob(".*")), (at, made)
        found = again.latest()
        assert found is not None
        step = found.snapshot.document["step"]
        assert (step in (2, 3), found.damaged) == (True, [])
        assert _is_snapshot(found.snapshot, step)
        assert step == 3 or raised
        again.save(4, _snapshot(4))
        outcomes.add((name, step))
    assert {name for name, _ in outcomes} == set(CALLS) - ({"unlink"} if place == 2 else set())
    assert {step for _, step in outcomes} == {2, 3}


def test_the_file_is_on_the_disk_before_it_has_its_name_and_its_name_before_it_counts(
    tmp_path: Path,
) -> None:
    with _failing(-1, OSError(), after=False) as calls:
        write_checkpoint(tmp_path / "a", _snapshot(1))
    assert calls == ["open", *["write"] * 3, "fsync", "close", "replace", "open", "fsync", "close"]


def test_a_disk_that_never_has_room_again_leaves_what_was_there(tmp_path: Path) -> None:
    code = f"""
import os, resource, sys
import numpy as np
from uoro.checkpoint import Checkpoints, Snapshot
from uoro.errors import CheckpointError
checkpoints = Checkpoints({str(tmp_path)!r})
checkpoints.save(1, Snapshot({{"a": np.zeros(1000)}}, {{"step": 1}}))
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    checkpoints.save(2, Snapshot({{"a": np.zeros(1_000_000)}}, {{"step": 2}}))
except CheckpointError as error:
    print(error)
print(sorted(os.listdir({str(tmp_path)!r})), checkpoints.latest().snapshot.document)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    message, after = done.stdout.splitlines()
    assert "can be written, got: File too large. A file that was there is unchanged" in message
    assert after == "['step-000000000001.safetensors'] {'step': 1}"


def test_runs_that_are_killed_while_they_write_leave_a_whole_one(tmp_path: Path) -> None:
    code = f"""
import numpy as np
from uoro.checkpoint import Checkpoints, Snapshot
checkpoints = Checkpoints({str(tmp_path)!r})
found = checkpoints.latest()
step = found.snapshot.document["step"] if found else 0
print("ready", flush=True)
while True:
    step += 1
    checkpoints.save(step, Snapshot({{"a": np.full(500_000, float(step))}}, {{"step": step}}))
"""
    last = 0
    for pause in (0.05, 0.08, 0.11, 0.14):
        with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as run:
            assert run.stdout is not None
            assert run.stdout.readline() == b"ready\n"
            time.sleep(pause)
            run.kill()
        found = Checkpoints(tmp_path).latest()
        step = 0 if found is None else found.snapshot.document["step"]
        assert step >= last
        if found is not None:
            assert found.damaged == []
            assert np.array_equal(found.snapshot.arrays["a"], np.full(500_000, float(step)))
        assert not list(tmp_path.glob(".*"))
        last = step
    assert last > 0


# One run a folder.

HOLD = "import sys, time; from uoro.checkpoint import run_lock\nwith run_lock(sys.argv[1]):\n"


def _hold(folder: Path) -> subprocess.Popen[bytes]:
    code = HOLD + "    print('held', flush=True); sys.stdin.readline()"
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE, stdin=subprocess.PIPE
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    return holder


@pytest.mark.parametrize("end", ["finished", "killed"])
def test_a_second_run_is_refused_until_the_first_ends_however_it_ends(
    tmp_path: Path, end: str
) -> None:
    with _hold(tmp_path) as first:
        assert is_locked(tmp_path)
        holder = lock_holder(tmp_path)
        assert holder is not None
        assert holder.process == first.pid
        wanted = rf"process {first.pid} on {holder.host}, since .*, is at work"
        with pytest.raises(LockedError, match=wanted), run_lock(tmp_path):
            pass
        if end == "killed":
            first.send_signal(signal.SIGKILL)
        else:
            first.communicate(b"\n")
        first.wait()
    assert not is_locked(tmp_path)
    with run_lock(tmp_path):
        assert is_locked(tmp_path)
        holder = lock_holder(tmp_path)
        assert holder is not None
        assert holder.process == os.getpid()
    assert not is_locked(tmp_path)


def test_the_lock_is_released_when_a_run_fails_and_refused_within_one_process(
    tmp_path: Path,
) -> None:
    def fail() -> None:
        with run_lock(tmp_path / "run"):
            wanted = f"process {os.getpid()} on"
            with pytest.raises(LockedError, match=wanted), run_lock(tmp_path / "run"):
                pass
            assert is_locked(tmp_path / "run")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert not is_locked(tmp_path / "run")


def test_a_run_removes_what_those_before_it_left_half_written(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "pass"]) as ended:
        ended.wait()
    host = re.sub(r"[^0-9A-Za-z.]", "_", socket.gethostname())
    for name in (".run.lock.json", "status.json"):
        (tmp_path / f".{name}.{host}-{ended.pid}-0123abcd.part").write_text("{")
    alive = tmp_path / f".status.json.{host}-{os.getppid()}-0123abcd.part"
    alive.write_text("{")
    with run_lock(tmp_path):
        assert [path for path in tmp_path.iterdir() if path.suffix == ".part"] == [alive]


def test_those_who_only_ask_do_not_take_each_other_for_a_run(tmp_path: Path) -> None:
    with run_lock(tmp_path):
        pass
    # As a run that was killed leaves it.
    with subprocess.Popen([sys.executable, "-c", "pass"]) as ended:
        ended.wait()
    holder = {"process": ended.pid, "host": socket.gethostname(), "since": ""}
    (tmp_path / ".run.lock.json").write_text(json.dumps(holder))
    code = (
        "import sys; from uoro.checkpoint import is_locked\n"
        "print(sum(is_locked(sys.argv[1]) for _ in range(1000)))"
    )
    asking = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE)
        for _ in range(3)
    ]
    assert [asked.communicate()[0] for asked in asking] == [b"0\n"] * 3
    with run_lock(tmp_path):
        assert is_locked(tmp_path)


def test_asking_whether_a_run_is_at_work_writes_nothing(tmp_path: Path) -> None:
    assert not is_locked(tmp_path)
    assert not is_locked(tmp_path / "none")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_locked_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    wanted = "a folder in which a lock can be created, got: "
    with pytest.raises(CheckpointError, match=wanted), run_lock(tmp_path / "file"):
        pass
