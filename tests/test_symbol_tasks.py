"""Synthetic tasks: streams against their definitions, entropy rates against ideal predictors."""

from __future__ import annotations

import math
import re
from itertools import islice
from typing import Any

import numpy as np
import pytest

from uoro import UORO, load_backend
from uoro.errors import SettingError, UOROError
from uoro.learning.host_noise import SharedNoise, draw_leaf, numbered_generator
from uoro.tasks import (
    AnBn,
    Copy,
    DistantBrackets,
    Network,
    PairStream,
    anbn,
    copying,
    distant_brackets,
)

SOURCES: list[Any] = [
    AnBn(1, 32),
    AnBn(3, 5),
    DistantBrackets(1, 5, 10),
    DistantBrackets(3, 0, 4),
    Copy(5, 8),
]


def _read(source: Any, count: int, *, seed: int = 0) -> str:
    items = source.stream(seed).take(count)
    return "".join(source.alphabet[i] for i in items["symbol"])


@pytest.mark.parametrize("source", SOURCES, ids=repr)
def test_what_is_asked_for_at_a_time_makes_no_difference(source: Any) -> None:
    whole = source.stream(3).take(20_000)
    stream, parts = source.stream(3), []
    for count in (1, 7, 4999, 0, 3, 14_990):
        parts.append(stream.take(count))
    for name in ("symbol", "target"):
        joined = np.concatenate([part[name] for part in parts])
        np.testing.assert_array_equal(joined, whole[name])
        assert joined.dtype == np.int32
    each = list(islice(source.stream(3), 50))
    assert [int(item["target"]) for item in each] == whole["target"][:50].tolist()


@pytest.mark.parametrize("source", SOURCES, ids=repr)
def test_a_seed_determines_the_stream(source: Any) -> None:
    assert _read(source, 5000, seed=1) == _read(source, 5000, seed=1)
    assert _read(source, 5000, seed=1) != _read(source, 5000, seed=2)


@pytest.mark.parametrize("source", SOURCES, ids=repr)
def test_a_long_stream_is_not_held_in_memory(source: Any) -> None:
    stream = source.stream(0)
    for _ in range(100):
        stream.take(1000)
    assert len(stream._held) < 20_000


def test_anbn_is_lines_of_as_and_as_many_bs() -> None:
    text = _read(AnBn(3, 5), 30_000)
    pairs = re.findall(r"(a+)\n(b+)\n", text)
    assert len("".join(f"{a}\n{b}\n" for a, b in pairs)) > len(text) - 14
    assert {(len(a), len(b)) for a, b in pairs} == {(3, 3), (4, 4), (5, 5)}


def test_distant_brackets_come_back() -> None:
    text = _read(DistantBrackets(2, 4, 5), 30_000)
    lines = text.split("\n")[:-1]
    assert all(re.fullmatch(r"\[([a-e]{2})\][a-e]{4}\[\1\]", line) for line in lines)
    assert DistantBrackets(2, 4, 5).line_length == len(lines[0]) + 1


def test_the_copy_target_was_read_a_lag_ago() -> None:
    items = Copy(5, 8).stream(0).take(1000)
    np.testing.assert_array_equal(items["target"][5:], items["symbol"][:-5])
    assert set(items["symbol"].tolist()) == set(range(8))


@pytest.mark.parametrize(("k", "l"), [(1, 32), (3, 5)])
def test_run_lengths_are_uniform(k: int, l: int) -> None:  # noqa: E741
    lengths = [len(run) for run in re.findall(r"a+", _read(AnBn(k, l), 200_000))[1:-1]]
    counts = np.bincount(lengths, minlength=l + 1)[k:]
    expected = len(lengths) / (l - k + 1)
    chi_square = float(((counts - expected) ** 2 / expected).sum())
    freedom = l - k
    assert chi_square < freedom + 4 * math.sqrt(2 * freedom)


def _bits_of_a_run(source: AnBn, n: int) -> float:
    """What the ideal predictor pays to see a line end after n letters and no sooner."""
    paid = 0.0
    for seen in range(1, n + 1):
        # A uniform length that has reached `seen` ends there with this probability.
        ends = 0.0 if seen < source.k else 1.0 / (source.l - max(seen, source.k) + 1)
        paid -= math.log2(ends if seen == n else 1.0 - ends)
    return paid


@pytest.mark.parametrize(("k", "l"), [(1, 32), (3, 6)])
def test_the_entropy_rate_of_anbn_is_what_the_ideal_predictor_pays(k: int, l: int) -> None:  # noqa: E741
    source = AnBn(k, l)
    runs = [len(run) for run in re.findall(r"a+", _read(source, 300_000))[1:-1]]
    lengths = 2 * np.array(runs) + 2
    # Who counts pays for the a's alone, who cannot pays for the b's again.
    paid = np.array([_bits_of_a_run(source, n) for n in runs])
    np.testing.assert_allclose(paid, math.log2(l - k + 1), rtol=1e-12)
    error = np.std(lengths) / math.sqrt(len(lengths)) / source.line_length
    assert error < 0.01
    for bits, rate in ((paid, source.entropy_rate), (2 * paid, source.entropy_rate_without_count)):
        assert bits.sum() / lengths.sum() == pytest.approx(rate, rel=4 * error)
    assert AnBn(1, 32).entropy_rate == pytest.approx(5 / 35)


def test_the_entropy_rate_of_distant_brackets_is_what_the_ideal_predictor_pays() -> None:
    source = DistantBrackets(1, 5, 10)
    text = _read(source, 12 * 5000)
    # Every letter but the second bracketed one costs log2(a); each is uniform, by its counts.
    letters = "".join(line[1] + line[3:8] for line in text.split("\n")[:-1])
    counts = np.array([letters.count(letter) for letter in source.alphabet[3:]])
    expected = len(letters) / 10
    assert ((counts - expected) ** 2 / expected).sum() < 9 + 4 * math.sqrt(18)
    assert source.entropy_rate == pytest.approx(len(letters) * math.log2(10) / len(text))
    gained = math.log2(10) / 12
    assert source.entropy_rate_without_memory - source.entropy_rate == pytest.approx(gained)


def test_tasks_say_their_entropy_rate_and_record_their_settings() -> None:
    for task in (
        anbn(2, 9),
        distant_brackets(2, 3, 4),
        copying(3, 4, network=Network("lstm", 8, 2)),
    ):
        assert task.entropy_rate is not None
        assert task.solved_below is None
        params, _ = task.model.init(np.random.default_rng(0))
        assert "readout" in params
    assert anbn(2, 9).settings["l"] == 9
    assert copying(3, 4, network=Network("lstm", 8, 2)).settings["layers"] == 2
    assert copying().entropy_rate == 0.0


@pytest.mark.parametrize(
    "make",
    [
        lambda: AnBn(0, 3),
        lambda: AnBn(4, 3),
        lambda: DistantBrackets(0, 5, 10),
        lambda: DistantBrackets(1, -1, 10),
        lambda: DistantBrackets(1, 5, 27),
        lambda: Copy(0, 8),
        lambda: Copy(5, 1),
    ],
)
def test_settings_out_of_range_are_named(make: Any) -> None:
    with pytest.raises(SettingError, match=r"expected (1 <= k <= l|a <= 26|an integer >= \d)"):
        make()


def test_an_unknown_cell_names_the_nearest() -> None:
    with pytest.raises(UOROError, match="Did you mean 'gru'"):
        anbn(network=Network("gur"))


def test_noise_of_the_same_seed_is_not_drawn_from_the_bits_of_the_stream() -> None:
    # The lengths of 256 lines, and signs that would be their five highest bits.
    lengths = AnBn(1, 32)._block(numbered_generator(3, 0))
    runs = np.diff(np.flatnonzero(np.concatenate([[2], lengths]) == 2))[::2] - 2
    signs = SharedNoise(UORO().draw, np.zeros(32), 3).take(256)
    top = (signs[:, ::-1][:, :5] > 0) @ (2 ** np.arange(4, -1, -1))
    assert np.mean(top[: len(runs)] == runs[: len(top)]) < 0.2
    backend = load_backend("autograd")
    drawn = backend.random(backend.fold(backend.key(3), 0), np.zeros(256 * 32), "signs")
    bits = np.random.Generator(np.random.Philox(np.random.SeedSequence(3, spawn_key=(0,))))
    same = draw_leaf(bits, "signs", (256 * 32,), np.float64)
    assert abs(np.mean(drawn * same)) < 0.1


def test_pairs_may_look_ahead_or_back() -> None:
    def blocks() -> Any:
        yield np.arange(3, dtype=np.int32)
        yield np.arange(3, 20, dtype=np.int32)

    ahead = PairStream(blocks(), lead=2).take(5)
    assert ahead["symbol"].tolist() == [0, 1, 2, 3, 4]
    assert ahead["target"].tolist() == [2, 3, 4, 5, 6]
    back = PairStream(blocks(), lead=-2).take(5)
    assert back["symbol"].tolist() == [2, 3, 4, 5, 6]
    assert back["target"].tolist() == [0, 1, 2, 3, 4]
