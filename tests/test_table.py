"""Tables as a stream: what is read, how it is scaled, and what every mistake says."""

from __future__ import annotations

import gzip
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from uoro.errors import (
    MissingFrameworkError,
    SettingError,
    StreamError,
    UnknownNameError,
    UOROError,
)
from uoro.files.pipes import Resume
from uoro.models import GRU, SeriesModel
from uoro.tables import Wanted, open_table
from uoro.tasks import table

ROWS = 300


def _cells(seed: int = 0, rows: int = ROWS) -> dict[str, list[str]]:
    """Make columns of a table, of which some cells are missing."""
    generator = np.random.default_rng(seed)
    times = np.datetime64("2024-02-28T22:00:00") + np.arange(rows) * np.timedelta64(600, "s")
    warm = 1e6 + np.cumsum(generator.normal(size=rows))
    columns = {
        "when": [str(time).replace("T", " ") for time in times],
        "warm": [f"{number:.4f}" for number in warm],
        "load": [f"{number:.3f}" for number in generator.normal(5, 2, rows)],
        "wind": [str(word) for word in generator.choice(["N", "S", "W"], rows)],
        "open": [str(word) for word in generator.choice(["true", "false"], rows)],
    }
    for name in ("warm", "load", "wind"):
        for row in generator.choice(rows, rows // 10, replace=False):
            columns[name][row] = ""
    return columns


def _csv(columns: dict[str, list[str]], delimiter: str = ",") -> str:
    lines = [columns, *zip(*columns.values(), strict=True)]
    return "".join(delimiter.join(line) + "\n" for line in lines)


@pytest.fixture
def readings(tmp_path: Path) -> Path:
    path = tmp_path / "readings.csv"
    path.write_text(_csv(_cells()))
    return path


def _all(stream: Any, counts: Sequence[int] = (64,)) -> dict[str, Any]:
    parts, number = [], 0
    while (items := stream.take(counts[number % len(counts)])) is not None:
        parts.append(items)
        number += 1
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _require_equal(one: dict[str, Any], two: dict[str, Any]) -> None:
    assert one.keys() == two.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], two[name], name)


def test_items_are_those_of_a_formula_that_sees_no_later_row(readings: Path) -> None:
    h = 3
    task = table(readings, "warm", h, drop="wind,open", time="when", cycles=[])
    items = _all(task.stream(0))
    cells = _cells()
    number = {n: np.array([float(c or "nan") for c in cells[n]]) for n in ("warm", "load")}
    first = ROWS - len(items["target"])
    usual = np.full(ROWS, np.nan)
    changes: list[float] = []
    known = [max((i for i in range(t + 1) if cells["warm"][i]), default=None) for t in range(ROWS)]
    for t in range(ROWS):
        if t >= h and cells["warm"][t] and known[t - h] is not None:
            changes.append(number["warm"][t] - number["warm"][known[t - h]])
        usual[t] = np.sqrt(np.mean(np.square(changes))) if changes else 0.0
    judged = 0
    for row, t in enumerate(range(first, ROWS)):
        for place, name in enumerate(("warm", "load")):
            past = number[name][: t - h + 1]
            seen = past[np.isfinite(past)]
            wanted = 0.0 if np.isnan(past[-1]) else (past[-1] - seen.mean()) / seen.std()
            wanted = min(max(wanted, -10.0), 10.0)
            assert items["inputs"][row][place] == pytest.approx(wanted, abs=1e-6)
            assert items["inputs"][row][3 + place] == np.isfinite(past[-1])
        if cells["warm"][t]:
            change = number["warm"][t] - number["warm"][known[t - h]]
            assert items["weight"][row] == 1.0
            assert items["target"][row] == pytest.approx(
                min(max(change / usual[t - h], -10.0), 10.0), abs=1e-6
            )
            judged += 1
        else:
            assert items["weight"][row] == items["target"][row] == 0.0
    assert judged > 200
    assert items["weight"][0] == 1.0
    np.testing.assert_array_equal(items["newest"][:-2], items["inputs"][2:])


def test_inputs_hold_times_cycles_and_categories(readings: Path) -> None:
    task: Any = table(readings, "warm")
    assert task.settings["cycles"] == [86400.0, 604800.0]
    # warm, load, open and the time since the last row, each with a mask; N, S, W, other; 2 cycles.
    assert task.model.inputs == 2 * 4 + 4 + 2 * 2
    inputs = _all(task.stream(0))["newest"]
    words = _cells()["wind"]
    first = ROWS - len(inputs)
    for row in range(1, len(inputs)):
        word = words[first + row - 1]
        assert inputs[row, 8:12].tolist() == [float(word == w) for w in ("N", "S", "W", None)]
        hours = (22 + (first + row - 1) / 6) % 24
        assert inputs[row, 12] == pytest.approx(np.sin(2 * np.pi * hours / 24), abs=1e-9)


def test_items_do_not_depend_on_how_many_are_taken_nor_on_a_stop(readings: Path) -> None:
    task: Any = table(readings, ["warm", "load"], 5, laps=2)
    whole = _all(task.stream(0))
    assert task.stream(0).take(1)["inputs"].shape == (1, task.model.inputs)
    _require_equal(whole, _all(task.stream(0), (1, 7, 64, 3)))
    parts = []
    stream: Any = task.stream(0)
    while (items := stream.take(29)) is not None:
        parts.append(items)
        position = json.loads(json.dumps(stream.position))
        stream = task.stream(0)
        stream.seek(position)
        assert stream.position == position
    _require_equal(whole, {n: np.concatenate([p[n] for p in parts]) for n in whole})
    assert stream.counts["rows"] == 2 * ROWS
    second = whole["weight"][-ROWS:]
    assert not second[:5].any()
    assert second[5:].any()


@pytest.mark.parametrize("form", ["tsv", "semicolon", "gzip", "utf-16", "folder", "parquet", "npy"])
def test_every_form_gives_the_same_items(tmp_path: Path, form: str) -> None:
    import pyarrow.csv
    import pyarrow.parquet

    columns = {name: cells for name, cells in _cells().items() if name in ("warm", "load")}
    plain = tmp_path / "plain.csv"
    plain.write_text(_csv(columns))
    text, path = _csv(columns), tmp_path / f"other.{form}"
    if form == "tsv":
        path.write_text(_csv(columns, "\t"))
    elif form == "semicolon":
        path = tmp_path / "other.csv"
        path.write_text(_csv(columns, ";").replace(".", ","))
    elif form == "gzip":
        path = tmp_path / "other.csv.gz"
        path.write_bytes(gzip.compress(text.encode()))
    elif form == "utf-16":
        path = tmp_path / "other.csv"
        path.write_text(text.replace("\n", "\n\n", 3), encoding="utf-16")
    elif form == "folder":
        path.mkdir()
        lines = text.splitlines(keepends=True)
        for number, first in enumerate((1, 100, 101)):
            part = lines[first : (100, 101, None)[number]]
            (path / f"{number}.csv").write_text(lines[0] + "".join(part))
    elif form == "parquet":
        pyarrow.parquet.write_table(pyarrow.csv.read_csv(plain), path, row_group_size=70)
    else:
        numbers = {n: [float(c or "nan") for c in cells] for n, cells in columns.items()}
        rows = list(zip(*numbers.values(), strict=True))
        np.save(path, np.array(rows, [(name, "f8") for name in numbers]))
    wanted = _all(table(plain, "warm", 2).stream(0), (17,))
    task = table(path, "warm", 2)
    _require_equal(wanted, _all(task.stream(0)))
    stream: Any = task.stream(0)
    stream.take(150)
    later: Any = task.stream(0)
    later.seek(json.loads(json.dumps(stream.position)))
    _require_equal(_all(stream), _all(later, (11,)))


def test_arrays_without_names_have_numbered_columns(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32))
    task = table(tmp_path / "a.npy", "2", drop="0")
    assert [column["name"] for column in task.settings["columns"]] == ["1", "2"]
    np.save(tmp_path / "b.npy", np.arange(50.0) ** 2)
    assert table(tmp_path / "b.npy").settings["target"] == ["0"]


def test_gaps_words_and_outliers_are_counted(tmp_path: Path) -> None:
    columns = _cells()
    for row, word in ((250, "NE"), (251, "storm")):
        columns["wind"][row] = word
    columns["load"][290] = "-9999"
    columns["load"][280] = "inf"
    path = tmp_path / "readings.csv"
    path.write_text(_csv(columns))
    stream: Any = table(path, "warm", categories={"wind": ["S", "N", "W"]}).stream(0)
    _all(stream)
    gaps = sum(cell in ("", "inf") for name in columns for cell in columns[name])
    assert stream.counts == {"rows": ROWS, "gaps": gaps, "other": 2, "clipped": 1}
    assert stream.running.missing.tolist() == [columns["warm"].count("")]


MALFORMED = {
    "short": ("2024-02-29 07:50:00,1.5,2", "line 61: expected 5 cells, as in the header, got 3"),
    "word": ("2024-02-29 07:50:00,1.5,x,N,true", "line 61: 'load': expected a number, got 'x'"),
    "huge": ("2024-02-29 07:50:00,1e31,2,N,true", "line 61: 'warm': expected a number below 1e+30"),
    "bool": ("2024-02-29 07:50:00,1,2,N,maybe", "line 61: 'open': expected a bool, got 'maybe'"),
    "date": ("the 5th of May,1,2,N,true", "line 61: 'when': expected a date, got 'the 5th"),
    "back": ("2024-02-01 00:00:00,1,2,N,true", "row 60: 'when': expected a time no earlier"),
}


@pytest.mark.parametrize("kind", MALFORMED)
def test_what_is_malformed_stops_the_stream_or_is_left_out(tmp_path: Path, kind: str) -> None:
    line, words = MALFORMED[kind]
    path = tmp_path / "readings.csv"
    lines = _csv(_cells()).splitlines()
    columns = table(_written(path, lines), "warm").settings["columns"]
    lines[60] = line
    task = table(_written(path, lines), "warm", columns=columns, malformed="skip")
    stream: Any = task.stream(0)
    items = _all(stream, (50,))
    assert stream.skipped == 1
    assert stream.counts["rows"] == ROWS - (kind == "short")
    assert all(np.isfinite(part).all() for part in items.values())
    with pytest.raises(StreamError) as caught:
        _all(table(path, "warm", columns=columns).stream(0), (1,))
    assert words in str(caught.value)
    assert "malformed='skip'" in str(caught.value)


def _written(path: Path, lines: Sequence[str]) -> Path:
    path.write_text("\n".join(lines) + "\n")
    return path


def test_rows_before_a_malformed_one_are_returned_first(tmp_path: Path) -> None:
    lines = _csv(_cells()).splitlines()
    path = tmp_path / "readings.csv"
    task = table(_written(path, lines), "warm")
    lines[200] = "2024-02-29 07:50:00,1"
    whole = _all(task.stream(0))
    stream: Any = table(_written(path, lines), "warm", columns=task.settings["columns"]).stream(0)
    parts = []
    while stream.counts["rows"] < 199:
        parts.append(stream.take(64))
    with pytest.raises(StreamError, match="line 201"):
        stream.take(1)
    taken = {name: np.concatenate([part[name] for part in parts]) for name in whole}
    _require_equal({name: part[: len(taken[name])] for name, part in whole.items()}, taken)
    assert stream.counts["rows"] == 199
    position = stream.position
    lines[200] = "2024-03-01 07:10:00,1,2,N,true"
    again: Any = table(_written(path, lines), "warm", columns=task.settings["columns"]).stream(0)
    again.seek(position)
    assert len(_all(again)["target"]) == 101


HEADS = {
    "an empty file": ("", "expected a header with names of columns, got an empty file"),
    "no rows": ("a,b\n", "expected rows below the header, got none"),
    "no header": ("1,2\n3,4\n", "expected a header with names of columns, got only numbers"),
    "a name twice": ("a,a\n3,4\n", "expected different names of columns, got 'a' twice"),
    "a text as target": ("a,b\nx,4\ny,5\n", "target 'a': expected a column of numbers, got 'x' in"),
    "an empty target": ("a,b\n,4\n,5\n", "target 'a': expected numbers, got an empty column"),
    "a short table": ("a,b\n1,4\n2,5\n", "expected more rows than the horizon, 4, got 2"),
    "broken lines": ("a,b\n" + '1,"x\ny"\n' * 9, "got cells in quotes with line breaks"),
    "Latin-1": ("a,b\n" + "1,\udcdf\n" * 9, "the column 'b' holds text that is not UTF-8"),
    "a long line": ("a\n" + "1" * 70_000, "line 2: expected a line below 65536 bytes"),
    "a ragged head": ("a,b\n1,4\n2\n", "line 3: expected 2 cells, as in the header, got 1"),
}


@pytest.mark.parametrize("case", HEADS)
def test_a_table_that_cannot_be_used_says_why(tmp_path: Path, case: str) -> None:
    text, words = HEADS[case]
    (tmp_path / "t.csv").write_text(text, errors="surrogateescape")
    with pytest.raises(StreamError) as caught:
        table(tmp_path / "t.csv", "a", 4)
    assert words in str(caught.value)


def test_what_is_asked_of_columns_is_checked(readings: Path, tmp_path: Path) -> None:
    def refused(kind: type[UOROError], words: str, *given: Any, **options: Any) -> None:
        with pytest.raises(kind) as caught:
            table(*given, **options)
        assert words in str(caught.value)

    refused(UnknownNameError, "no column for target 'worm'. Did you mean 'warm'", readings, "worm")
    refused(UnknownNameError, "no column for drop 'x'", readings, "warm", drop="x")
    refused(UnknownNameError, "no column for inputs 'lood'", readings, "warm", inputs=["lood"])
    refused(SettingError, "not exactly one column of numbers: 'warm', 'load'", readings)
    refused(SettingError, "target 'warm'", readings, "warm", drop="warm")
    refused(StreamError, "time 'wind': expected dates", readings, "warm", time="wind")
    refused(StreamError, "does not exist", tmp_path / "none.csv", "warm")
    refused(SettingError, "horizon", readings, "warm", 0)
    refused(SettingError, "one file of CSV or TSV", [readings, readings], "warm", follow=True)
    refused(SettingError, "'-' alone", ["-", readings], "warm")
    (tmp_path / "empty").mkdir()
    refused(StreamError, "got none in", tmp_path / "empty", "warm")
    many = tmp_path / "many.csv"
    many.write_text("a,b\n" + "".join(f"{i % 7},word {i}\n" for i in range(50)))
    refused(StreamError, "at most 32 different values", many, "a", inputs="b")
    assert [c["name"] for c in table(many, "a").settings["columns"]] == ["a"]


def _fresh(path: Path) -> Any:
    return table(path, "a").stream(0)


def test_other_columns_are_refused_in_a_later_file_and_at_resume(tmp_path: Path) -> None:
    (tmp_path / "1.csv").write_text("a,b\n1,2\n2,3\n4,5\n")
    (tmp_path / "2.csv").write_text("c,b,a\n1,2,3\n2,3,4\n")
    task = table([tmp_path / "1.csv", tmp_path / "2.csv"], "a", inputs="b")
    assert len(_all(task.stream(0))["target"]) == 3  # in another order, with one more
    (tmp_path / "2.csv").write_text("a,c\n1,2\n2,3\n")
    with pytest.raises(StreamError, match="got none of the name 'b' among 'a', 'c'"):
        _all(task.stream(0))
    with pytest.raises(StreamError, match="got none of the name 'b'"):
        table(tmp_path / "2.csv", "a", columns=task.settings["columns"])
    stream: Any = table(tmp_path / "1.csv", "a").stream(0)
    stream.take(2)
    position = stream.position
    (tmp_path / "1.csv").write_text("a,b\n7,2\n2,3\n4,5\n")
    with pytest.raises(StreamError, match="as it was read, got other bytes"):
        _fresh(tmp_path / "1.csv").seek(position)
    for damaged in ({}, {**position, "running": {}}, {**position, "rows": 3}, 5):
        with pytest.raises(StreamError, match=r"table\.seek"):
            _fresh(tmp_path / "1.csv").seek(damaged)


def test_a_missing_reader_is_named(readings: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingFrameworkError, match=r"pip install 'uoro\[table\]'"):
        table(readings, "warm")


def test_a_target_that_never_changes_is_an_error_at_the_end(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,b\n" + "".join(f"5,{i}\n" for i in range(30)))
    with pytest.raises(StreamError, match="expected a target that changes, got none in 30 rows"):
        _all(table(tmp_path / "t.csv", "a").stream(0))
    items = _all(table(tmp_path / "t.csv", "b").stream(0))
    assert not items["inputs"][:, 0].any()  # a constant input is zero


def test_a_growing_table_and_a_pipe_give_what_the_whole_file_does(tmp_path: Path) -> None:
    text = _csv(_cells()).encode()
    (tmp_path / "whole.csv").write_bytes(text)
    whole = _all(table(tmp_path / "whole.csv", "warm").stream(0))
    grows = tmp_path / "grows.csv"
    grows.write_bytes(text[:1000])
    stream: Any = table(grows, "warm", follow=True).stream(0)
    parts, sizes = [], iter((1003, 5000, 5001, len(text)))

    def more(seconds: float) -> bool:
        size = next(sizes, None)
        if size is not None:
            grows.write_bytes(text[:size])
        return size is not None

    stream.waiting = more
    while (items := stream.take(100)) is not None:
        parts.append(items)
        position = json.loads(json.dumps(stream.position))
    _require_equal(whole, {n: np.concatenate([p[n] for p in parts]) for n in whole})
    again: Any = table(grows, "warm", follow=True).stream(0)
    again.seek(position)
    again.waiting = lambda seconds: False
    assert again.take(5) is None
    reading, writing = os.pipe()
    os.write(writing, text)
    os.close(writing)
    wanted = Wanted(("warm",))
    source = open_table("table", [Path("-")], wanted, descriptor=reading)
    plain = open_table("table", [tmp_path / "whole.csv"], wanted)
    piped, read = source.rows(), plain.rows()
    got, expected = [], []
    while (rows := piped.read(40)) is not None:
        got.append(rows)
        if sum(map(len, got)) == 80:
            middle = json.loads(json.dumps(piped.position))
    while (rows := read.read(40)) is not None:
        expected.append(rows)
    os.close(reading)
    np.testing.assert_array_equal(np.concatenate(got), np.concatenate(expected))
    cases: tuple[tuple[Resume, bytes], ...] = (("restarts", text), ("continues", b""))
    for resume, rest in cases:
        reading, writing = os.pipe()
        columns = plain.columns.record()
        fresh = open_table(
            "table", [Path("-")], wanted, known=columns, resume=resume, descriptor=reading
        ).rows()
        at = len(text) if resume == "restarts" else middle["byte"] + len(middle["unread"]) // 2
        os.write(writing, rest[:at] if rest else text[at:])
        os.close(writing)
        fresh.seek(middle)
        later = []
        while (rows := fresh.read(64)) is not None:
            later.append(rows)
        os.close(reading)
        np.testing.assert_array_equal(np.concatenate(later), np.concatenate(expected)[80:])
        with pytest.raises(StreamError, match="as 'dialect'"):
            fresh.seek(middle | {"dialect": 5})
        refused = "A pipe does not go back" if resume == "restarts" else "expected a new stream"
        with pytest.raises(StreamError, match=rf"table\.seek.*{refused}"):
            fresh.seek(middle)


def test_the_model_begins_at_persistence() -> None:
    model = SeriesModel((GRU(4),), 3, 2)
    params, state = model.init(np.random.default_rng(0))
    item = {"inputs": np.ones(3), "target": np.array([2.0, 5.0]), "weight": np.array([1.0, 0.0])}
    state, loss, predicted = model.transition(np, params, state, item)
    assert predicted.tolist() == [0.0, 0.0]
    assert loss == 2.0
    assert np.abs(state["0"]["h"]).max() > 0


def test_takes_are_full_up_to_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Each number of items that is taken is compiled for.
    monkeypatch.setattr("uoro.tables.array_rows.BLOCK_ROWS", 50)
    path = tmp_path / "a.npy"
    np.save(path, np.random.default_rng(0).normal(size=(300, 2)))
    stream: Any = table(path, "0", laps=2).stream(0)
    sizes = []
    while (items := stream.take(64)) is not None:
        sizes.append(len(items["weight"]))
    assert sizes[:-1] == [64] * 9
    assert sum(sizes) == 598
