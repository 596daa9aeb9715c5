"""Text as a stream, and noise that every backend shares."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from uoro import UORO, Streams
from uoro.errors import StreamError, UnknownNameError
from uoro.files.places import BLOCK_BYTES
from uoro.learning.host_noise import BLOCK, SharedNoise
from uoro.tasks import Network, Text, influence_balancing, text
from uoro.tasks.text import shakespeare


def _write(folder: Path, content: str | bytes) -> Path:
    path = folder / "book.txt"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def _read(source: Text, count: int, block: int) -> str:
    """Spell what a stream gives, asked for ``block`` items at a time; check the targets."""
    symbols: list[int] = []
    stream, last = source.stream(), None
    while len(symbols) < count:
        part = stream.take(min(block, count - len(symbols)))
        if last is not None:
            assert part["symbol"][0] == last
        np.testing.assert_array_equal(part["symbol"][1:], part["target"][:-1])
        symbols += part["symbol"].tolist()
        last = part["target"][-1]
    return "".join(source.alphabet[i] for i in symbols)


@pytest.mark.parametrize("block", [1, 7, 100])
def test_text_comes_back_character_by_character_and_starts_over(tmp_path: Path, block: int) -> None:
    content = "Être ou ne pas être, 是 the question: 🎭\n"
    source = Text.open([_write(tmp_path, content)])
    assert source.alphabet == "".join(sorted(set(content)))
    assert _read(source, 2 * len(content) + 3, block) == content * 2 + content[:3]


def test_characters_split_across_blocks_are_whole(tmp_path: Path) -> None:
    content = "a" * (BLOCK_BYTES - 1) + "是b" * 10
    source = Text.open([_write(tmp_path, content)])
    assert _read(source, len(content), 5000) == content


def test_bytes_are_symbols_too(tmp_path: Path) -> None:
    content = bytes([0, 255, 7, 255, 254])
    source = Text.open([_write(tmp_path, content)], encoding="bytes")
    assert source.codes.tolist() == [0, 7, 254, 255]
    assert _read(source, 5, 2) == content.decode("latin-1")


def test_several_files_are_read_one_after_the_other(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("ab")
    (tmp_path / "b").write_text("cd")
    assert _read(Text.open([tmp_path / "a", tmp_path / "b"]), 5, 2) == "abcda"


def test_items_can_be_taken_one_by_one(tmp_path: Path) -> None:
    stream = Text.open([_write(tmp_path, "abc")]).stream()
    pairs = [
        (int(item["symbol"]), int(item["target"]))
        for item, _ in zip(stream, range(4), strict=False)
    ]
    assert pairs == [(0, 1), (1, 2), (2, 0), (0, 1)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "expected at least two characters, got 0"),
        ("x", "expected at least two characters, got 1"),
        ("xxxx", "expected at least two different characters, got only 'x'"),
        (b"ab\xff", "not UTF-8.*encoding='bytes'"),
        (b"ab\xe6\x98", "not UTF-8"),
    ],
)
def test_text_that_cannot_be_learned_from(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(StreamError, match=message):
        Text.open([_write(tmp_path, content)])


def test_files_that_are_missing_or_change(tmp_path: Path) -> None:
    with pytest.raises(StreamError, match=r"nowhere.txt.*No such file"):
        Text.open([tmp_path / "nowhere.txt"])
    path = _write(tmp_path, "abab")
    source = Text.open([path])
    path.write_text("abxb")
    with pytest.raises(StreamError, match=r"byte 2 of .*'x'. It was not there.*open it anew"):
        list(islice(source.stream(), 3))
    stream = Text.open([path]).stream()
    stream.take(3)
    path.write_text("")
    with pytest.raises(StreamError, match="They are empty, or were changed"):
        stream.take(3)


def test_shakespeare_is_the_default_text() -> None:
    task = text(network=Network(units=4))
    assert len(shakespeare()) == len(task.settings["files"]) > 30
    assert "To be, or not to be" in "".join(path.read_text("utf-8") for path in shakespeare())
    assert 60 < len(task.settings["alphabet"]) < 256


def test_an_unknown_model_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match=r"no model 'gur'\. Did you mean 'gru'"):
        text(network=Network("gur"))


def test_influence_balancing_knows_its_solution() -> None:
    task = influence_balancing()
    theta = task.model.solution  # type: ignore[attr-defined]  # this model's own
    state = np.zeros(23)
    for _ in range(2000):
        state, loss = task.model.transition(np, {"theta": theta}, state, None)
    assert loss < 1e-25


def test_shared_noise_does_not_depend_on_how_it_is_asked_for() -> None:
    state = {"b": np.zeros(3), "a": np.zeros((2, 2))}
    whole = SharedNoise(UORO().draw, state, 5).take(2 * BLOCK + 9)
    signs = SharedNoise(UORO().draw, state, 5)
    parts = [signs.take(count) for count in (1, BLOCK, BLOCK + 7)] + [
        {name: leaf[None] for name, leaf in next(signs).items()}
    ]
    for name in state:
        np.testing.assert_array_equal(np.concatenate([p[name] for p in parts]), whole[name])
        assert whole[name].shape == (2 * BLOCK + 9, *state[name].shape)
        assert set(np.unique(whole[name])) == {-1.0, 1.0}


def test_shared_noise_of_ranks_and_streams_is_independent() -> None:
    state = np.zeros((3, 50))
    signs = SharedNoise(Streams(UORO(rank=2), 3).draw, state, 1).take(4)
    assert signs.shape == (4, 3, 2, 50)
    rows = signs.reshape(24, 50)
    products = rows @ rows.T / 50
    assert np.abs(products - np.eye(24)).max() < 0.75, "no two rows are equal or opposite"
