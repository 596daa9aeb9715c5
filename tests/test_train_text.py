"""A run learns from text that is still being written, and goes on at the right character."""

from __future__ import annotations

import gzip
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from runs import begin, command, go_on, outcome, require_same, settings

from uoro.checkpoint import Checkpoints
from uoro.errors import StreamError
from uoro.training import Run, read_status

TEXT = "the cat sat on the mat; " * 3 + "that was that."
ALPHABET = "".join(sorted(set(TEXT + "é")))


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("uoro.training.record.draw_runs", lambda path, runs: None)
    monkeypatch.setattr("uoro.tasks.growing.PAUSE", 0.005)
    monkeypatch.setattr("uoro.training.session.IDLE_SECONDS", 0.01)


def _following(path: Path, **over: Any) -> dict[str, Any]:
    options = {"paths": [str(path)], "alphabet": ALPHABET, "follow": True}
    return {"task": "text", "options": options, "steps": 10_000, "stall": 0.05} | over


@pytest.mark.parametrize(
    ("backend", "estimator"),
    [("autograd", "uoro"), ("autograd", "tbptt:4"), ("torch", "uoro:memory=3")],
)
def test_a_growing_file_is_learned_from_as_if_it_had_been_there(
    tmp_path: Path, backend: str, estimator: str
) -> None:
    path, whole = tmp_path / "growing.txt", tmp_path / "whole.txt"
    over = {"backend": backend, "estimator": estimator}
    whole.write_text(TEXT)
    path.write_text("")
    begin_text = [TEXT[:20], TEXT[20:45], TEXT[45:46], TEXT[46:]]
    with path.open("a") as file:
        file.write(begin_text[0])
    ended = begin(tmp_path / "run", **_following(path, **over))
    assert (ended.state, ended.reason) == ("stopped", "no input for 0.05 s")
    for more in begin_text[1:]:
        with path.open("a") as file:
            file.write(more)
        ended = go_on(tmp_path / "run")
        assert ended.state == "stopped"
    span = {"tbptt:4": 4, "uoro:memory=3": 3}.get(estimator, 1)
    assert ended.step == (len(TEXT) - 1) // span
    begin(tmp_path / "left alone", **_following(whole, **over))
    require_same(tmp_path / "left alone", tmp_path / "run")


@pytest.mark.parametrize("backend", ["autograd", "jax"])
def test_what_was_learned_is_on_disk_while_a_run_waits(tmp_path: Path, backend: str) -> None:
    path, folder = tmp_path / "growing.txt", tmp_path / "run"
    path.write_text(TEXT[:25])
    checkpoints = Checkpoints(folder / "checkpoints")
    idle: list[dict[str, Any]] = []

    def watch(live: Any) -> None:
        assert live.waiting < 60.0
        if (
            live.waiting
            and not idle
            and checkpoints.paths()[-1:] == [folder / "checkpoints" / f"step-{24:012d}.safetensors"]
        ):
            idle.append(outcome(folder)["document"])
            with path.open("a") as file:
                file.write(TEXT[25:])

    over = _following(path, backend=backend, stall=None, steps=len(TEXT) - 1)
    assert Run(settings(**over), folder).go(watch=watch).state == "done"
    assert idle[0]["learner"]["steps"] == idle[0]["stream"]["items"] == 24
    assert idle[0]["meter"]["count"] == 24
    (tmp_path / "whole.txt").write_text(TEXT)
    begin(
        tmp_path / "whole",
        **_following(tmp_path / "whole.txt", backend=backend, steps=len(TEXT) - 1),
    )
    require_same(tmp_path / "whole", folder)


def test_no_input_has_exit_status_3(tmp_path: Path) -> None:
    (tmp_path / "short.txt").write_text(TEXT[:9])
    done = command(
        *("train", "text", "--file", tmp_path / "short.txt", "--alphabet", "ascii", "--follow"),
        *("--backend", "autograd", "--units", "3", "--stall", "0.05", "--out", tmp_path / "run"),
    )
    assert done.status == 3, done.errors
    assert "stopped: no input for 0.05 s" in done.output
    assert read_status(tmp_path / "run")["step"] == 8


@contextmanager
def _standard_input(data: bytes) -> Iterator[None]:
    """Have standard input be a pipe through which these bytes come, and no more."""
    reading, writing = os.pipe()
    os.write(writing, data)
    os.close(writing)
    before = os.dup(0)
    os.dup2(reading, 0)
    os.close(reading)
    try:
        yield
    finally:
        os.dup2(before, 0)
        os.close(before)


PIPE: dict[str, Any] = {"task": "text", "options": {"paths": ["-"], "encoding": "bytes"}}


def test_a_pipe_is_taken_up_where_it_was_and_another_one_is_refused(tmp_path: Path) -> None:
    data, whole, folder = TEXT.encode(), tmp_path / "whole", tmp_path / "run"
    over = PIPE | {"steps": 1000}
    with _standard_input(data):
        assert begin(whole, **over).reason == "the stream has ended"
    with _standard_input(data):
        assert begin(folder, **over, stop_at=13).state == "interrupted"
    other = b"a" + data[1:]
    with _standard_input(other):
        refused = command("train", "--resume", folder)
    assert refused.status == 2
    assert "they are others now" in refused.errors
    with _standard_input(data[:9]), pytest.raises(StreamError, match="it ended after 9"):
        go_on(folder)
    with _standard_input(data):
        assert go_on(folder, stop_at=30).state == "interrupted"
    with _standard_input(data):
        assert go_on(folder).reason == "the stream has ended"
    assert outcome(folder)["document"]["learner"]["steps"] == len(data) - 1
    require_same(whole, folder)


def test_a_pipe_that_continues_goes_on_behind_what_was_read(tmp_path: Path) -> None:
    data, whole, folder = TEXT.encode(), tmp_path / "whole", tmp_path / "run"
    with _standard_input(data):
        begin(whole, **PIPE, steps=1000)
    with _standard_input(data[:40]):
        begin(folder, **PIPE, steps=20)
    with _standard_input(data[40:]):
        done = command("train", "--resume", folder, "--stdin", "continues", "--steps", "1000")
    assert done.status == 0, done.errors
    require_same(whole, folder)


def test_a_pipe_is_read_as_bytes_by_the_command(tmp_path: Path) -> None:
    with _standard_input("déjà vu ".encode() * 3):
        done = command(
            *("train", "text", "--file", "-", "--backend", "autograd", "--units", "3"),
            *("--out", tmp_path / "run"),
        )
    assert done.status == 0, done.errors
    assert outcome(tmp_path / "run")["document"]["learner"]["steps"] == 29
    sampled = command("sample", tmp_path / "run", "--length", "4", "--prompt", "é")
    assert sampled.output.startswith("é")


def test_what_is_not_in_the_alphabet_fails_a_run_which_goes_on_if_it_may_be_skipped(
    tmp_path: Path,
) -> None:
    path = tmp_path / "odd.txt"
    path.write_text(TEXT[:30] + "Ω" + TEXT[30:])
    ended = begin(tmp_path / "run", **_following(path))
    assert ended.state == "failed"
    assert "Ω" in ended.reason
    assert outcome(tmp_path / "run")["document"]["learner"]["steps"] == 29
    over = _following(path)
    over["options"]["malformed"] = "skip"
    assert go_on(tmp_path / "run", **over, force=True).step == len(TEXT) - 1
    assert read_status(tmp_path / "run")["malformed"] == 1


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_compressed_text_is_taken_up_where_it_was(tmp_path: Path, encoding: str) -> None:
    path, whole, folder = tmp_path / "book.txt.gz", tmp_path / "whole", tmp_path / "run"
    path.write_bytes(gzip.compress(TEXT.encode(encoding)))
    over: dict[str, Any] = {"task": "text", "options": {"paths": [str(path)]}}
    begin(whole, **over, steps=2 * len(TEXT))
    begin(folder, **over, steps=2 * len(TEXT), stop_at=13)
    assert go_on(folder, stop_at=len(TEXT) + 9).state == "interrupted"
    assert go_on(folder).state == "done"
    require_same(whole, folder)
    assert sorted(outcome(folder)["document"]["alphabet"]) == sorted(set(TEXT))


def test_the_command_advises_its_flags(tmp_path: Path) -> None:
    path = tmp_path / "odd.txt"
    path.write_bytes(b"caf\xe9 " * 9)
    asked: list[Any] = ["train", "text", "--backend", "autograd", "--units", "3", "--out"]
    done = command(*asked, tmp_path / "one", "--file", path)
    assert done.status == 2
    assert "looks like Latin-1" in done.errors
    assert "--encoding bytes; or leave such bytes out: --malformed skip" in done.errors
    path.write_text("abcabcdabc")
    done = command(*asked, tmp_path / "two", "--file", path, "--alphabet", "abc")
    assert done.status == 1
    assert "--malformed skip" in done.output
    assert "malformed=" not in done.output + done.errors


@pytest.mark.parametrize("name", ["train", "compare"])
def test_the_command_says_that_letters_are_left_out(tmp_path: Path, name: str) -> None:
    path = tmp_path / "odd.txt"
    path.write_bytes(b"caf\xe9 " * 9)
    done = command(
        name, "text", f"--backend{'s' if name == 'compare' else ''}", "autograd", "--units", "3",
        "--steps", "16", "--out", tmp_path / "out", "--file", path, "--malformed", "skip",
    )  # fmt: skip
    assert done.status == 0, done.errors
    assert "uoro: warning: --file" in done.errors
    assert "left out: they are NUL or not UTF-8. The text looks like Latin-1." in done.errors
