"""Streams that are stopped and made anew go on with the very next item."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uoro import UORO, load_backend
from uoro.errors import StreamError, UnseekableError
from uoro.learning.host_noise import SharedNoise, map_host
from uoro.learning.stream import BlockStream, SeekableStream
from uoro.learning.windows import Windows
from uoro.tasks import AnBn, Copy, DistantBrackets, PairStream, Recall, Text, influence_balancing
from uoro.tasks.pairs import Synthetic

BACKEND = load_backend("autograd")


def _uneven(generator: np.random.Generator) -> Any:
    return generator.integers(0, 9, int(generator.integers(1, 7)))


def _text(folder: Path, **options: Any) -> Text:
    contents = ["Être ou 是🎭 ne pas\n" * 9, "", "short", "x是" * 70_000]
    paths = [folder / str(number) for number in range(len(contents))]
    for path, content in zip(paths, contents, strict=True):
        path.write_text(content)
    return Text.open(paths, **options)


def _follow(folder: Path) -> Any:
    paths = _text(folder).paths
    stream = Text.open([paths[-1]], alphabet="x是", follow=True).stream()
    stream.waiting = lambda seconds: False  # type: ignore[union-attr]  # it grows
    return stream


STREAMS: dict[str, Callable[[Path], Any]] = {
    "anbn": lambda _: AnBn(1, 32).stream(3),
    "brackets": lambda _: DistantBrackets(3, 0, 4).stream(0),
    "copy": lambda _: Copy(5, 8).stream(1),
    "recall": lambda _: Recall(2, 5).stream(4),
    "uneven": lambda _: PairStream(Synthetic(2, _uneven, 9), lead=3),
    "uneven, back": lambda _: PairStream(Synthetic(2, _uneven, 9), lead=-9),
    "same": lambda _: PairStream(Synthetic(2, _uneven, 9), lead=0),
    "characters": lambda folder: _text(folder).stream(),
    "bytes": lambda folder: _text(folder, encoding="bytes").stream(),
    "skipping": lambda folder: _text(folder, alphabet="Ê tre\n", malformed="skip").stream(),
    "once": lambda folder: _text(folder, laps=1).stream(),
    "followed": lambda folder: _follow(folder),
    "idle": lambda _: influence_balancing().stream(0),
    "noise": lambda _: SharedNoise(UORO().draw, {"h": np.zeros(3)}, 5),
    "windows": lambda _: Windows(BACKEND, AnBn(1, 9).stream(1), 4),
    "windows of noise": lambda _: Windows(BACKEND, SharedNoise(UORO().draw, np.zeros(2), 5), 3),
}


FILES = ("characters", "bytes", "once", "followed")


@pytest.fixture(params=STREAMS)
def make(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Make the same stream anew, each time it is called."""
    folder = tmp_path_factory.mktemp("stream")
    return lambda: STREAMS[request.param](folder)


@pytest.fixture
def far(request: pytest.FixtureRequest) -> int:
    """How far to jump ahead, across blocks and files."""
    return 33_333 if request.node.callspec.params["make"] in FILES else 333


def _assert_equal(one: Any, other: Any) -> None:
    map_host(np.testing.assert_array_equal, one, other)


def _joined(parts: list[Any]) -> Any:
    return map_host(lambda *leaves: np.concatenate(leaves), *parts)


@given(st.lists(st.integers(0, 300), min_size=1, max_size=6), st.integers(0, 2))
@settings(max_examples=20, deadline=None)
def _check_goes_on(make: Callable[[], Any], far: int, counts: list[int], jumps: int) -> None:
    whole, stream = make(), make()
    if jump := jumps * far:
        _assert_equal(whole.take(jump), stream.take(jump))
    together = whole.take(max(1, sum(counts)))
    if sum(counts) == 0:
        stream.take(1)
    parts = []
    for count in counts:
        position = json.loads(json.dumps(stream.position))
        stream = make()
        stream.seek(position)
        assert json.loads(json.dumps(stream.position)) == position
        if count:
            parts.append(stream.take(count))
    if parts:
        _assert_equal(_joined(parts), together)
    assert stream.position == whole.position, "it does not depend on how items were taken"
    _assert_equal(stream.take(5), whole.take(5))


def test_a_stream_made_anew_goes_on_where_another_stopped(
    make: Callable[[], Any], far: int
) -> None:
    assert isinstance(make(), SeekableStream)
    _check_goes_on(make, far)


def test_a_stream_goes_back_to_where_it_was(make: Callable[[], Any]) -> None:
    stream = make()
    stream.take(7)
    position = stream.position
    ahead = stream.take(20)
    stream.seek(position)
    _assert_equal(stream.take(20), ahead)
    stream.seek(make().position)
    _assert_equal(stream.take(9), make().take(9))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
    max_leaves=4,
)


@given(st.data())
@settings(max_examples=60, deadline=None)
def _check_refuses(make: Callable[[], Any], data: st.DataObject) -> None:
    stream = make()
    stream.take(11)
    position = stream.position
    spoilt = _spoil(data, position)
    try:
        stream.seek(spoilt)
    except StreamError:
        assert stream.position == position, "a refusal leaves it where it was"
    else:
        assert json.dumps(stream.position) == json.dumps(spoilt), "what is taken is what was meant"


def _spoil(data: st.DataObject, position: Any) -> Any:
    """Replace, drop or add something in a position."""
    if not isinstance(position, dict) or data.draw(st.integers(0, 4)) == 0:
        return data.draw(JSON)
    key = data.draw(st.sampled_from(sorted(position)))
    way = data.draw(st.sampled_from(["deeper", "drop", "add"]))
    if way == "drop":
        return {name: value for name, value in position.items() if name != key}
    if way == "add":
        return position | {data.draw(st.text()): data.draw(JSON)}
    return position | {key: _spoil(data, position[key])}


def test_what_is_no_position_is_refused(make: Callable[[], Any]) -> None:
    _check_refuses(make)


@pytest.mark.parametrize(
    ("stream", "position", "message"),
    [
        (AnBn().stream(0), None, r"PairStream.seek\(None\): expected a position.*'held'"),
        (AnBn().stream(0), {"held": [3], "source": {}}, "integers from 0 to 2, as 'held'"),
        (AnBn().stream(0), {"held": [True], "source": {}}, "as 'held'"),
        (
            AnBn().stream(0),
            {"held": [], "source": {"block": 0, "offset": 10**9}},
            "an 'offset' below",
        ),
        (AnBn().stream(0), {"held": [], "source": {"block": -1, "offset": 0}}, "as 'block'"),
        (influence_balancing().stream(0), 1.0, r"Idle.seek\(1.0\).*a number of items"),
        (SharedNoise(UORO().draw, np.zeros(1), 0), "7", r"SharedNoise.seek\('7'\).*of a step"),
    ],
)
def test_a_refusal_names_what_was_wanted(stream: Any, position: Any, message: str) -> None:
    with pytest.raises(StreamError, match=message):
        stream.seek(position)


def test_far_positions_are_reached_without_going_through_what_is_before() -> None:
    drawn = []

    def block(generator: np.random.Generator) -> Any:
        drawn.append(generator)
        return _uneven(generator)

    stream = PairStream(Synthetic(2, block, 9))
    stream.seek({"held": [1], "source": {"block": 10**12, "offset": 0}})
    stream.take(1)
    assert len(drawn) == 1


def test_streams_of_plain_iterators_have_no_position() -> None:
    plain = PairStream(iter([np.arange(3)]))
    for stream in (plain, Windows(BACKEND, plain, 2), Windows(BACKEND, [1.0, 2.0], 2)):
        assert isinstance(stream, BlockStream)
        assert not hasattr(stream, "position")
        with pytest.raises(UnseekableError, match=r"cannot say|'position' and 'seek'"):
            stream.position  # noqa: B018  # asking is enough
        with pytest.raises(UnseekableError, match=r"cannot say|'position' and 'seek'"):
            stream.seek(0)


def test_the_end_is_none_and_stays_so() -> None:
    stream = PairStream(iter([np.arange(3), np.arange(3, 5)]))
    items: Any = stream.take(10)
    assert items["target"].tolist() == [1, 2, 3, 4]
    assert stream.take(10) is None
    assert stream.take(10) is None
    assert list(stream) == []


def _place(stream: Any) -> dict[str, int]:
    place: dict[str, int] = stream.position["source"]
    return place


def test_a_file_that_shrank_or_changed_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "book"
    path.write_text("abcdef" * 100)
    source = Text.open([path])
    stream = source.stream()
    stream.take(500)
    position = stream.position
    for content, message in (
        (
            "abcdef" * 50,
            r"Text.seek\(position\): .*book' as it was read, 501 bytes or more, got 300 ",
        ),
        ("abcdef" * 80 + "fedcba" * 20, "as it was read, got other bytes before byte 501"),
    ):
        path.write_text(content)
        with pytest.raises(StreamError, match=message):
            source.stream().seek(position)
    path.write_text("abcdef" * 100 + "and more")
    source.stream().seek(position)
    path.unlink()
    with pytest.raises(StreamError, match="No such file"):
        source.stream().seek(position)


def test_a_file_that_changes_while_it_is_read_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "book"
    path.write_text("ab" * 100_000)
    stream = Text.open([path]).stream()
    stream.take(65_536 - 1)
    path.write_text("ba" * 100_000)
    with pytest.raises(StreamError, match=r"Text.stream\(\): .* got other bytes before byte 65536"):
        stream.take(1000)


class Trickle:
    """A stream of numbers that gives few at a time, and sometimes stops."""

    def __init__(self, counts: list[int]) -> None:
        self._counts = iter(counts)
        self.position = 0

    def __iter__(self) -> Trickle:
        return self

    def __next__(self) -> Any:
        raise AssertionError("it is read in blocks")

    def take(self, count: int) -> Any:
        got = min(count, next(self._counts, 0))
        self.position += got
        return np.arange(self.position - got, self.position) if got else None

    def seek(self, position: Any) -> None:
        self.position = position


def test_windows_put_together_what_comes_in_parts() -> None:
    windows = Windows(BACKEND, Trickle([1, 2, 5, 100, 2, 0, 1]), 3)
    assert windows.take(3).tolist() == [[0, 1, 2]]
    assert windows.take(1).tolist() == [[3, 4, 5]]
    assert windows.take(2).tolist() == [[6, 7, 8], [9, 10, 11]]
    assert windows.take(2) is None, "two items of a window are there"
    with pytest.raises(UnseekableError, match="2 items of a window of 3"):
        windows.position  # noqa: B018  # asking is enough
    assert windows.take(2).tolist() == [[12, 13, 14]]
    assert windows.position == 15
    windows.seek(3)
    assert windows.position == 3
