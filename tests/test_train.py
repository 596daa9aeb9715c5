"""A training run is what its settings say, and goes on from wherever it ended."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w
from conftest import BACKENDS
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from runs import TINY, begin, command, go_on, outcome, require_same, settings

from uoro.checkpoint import Checkpoints, Snapshot, run_lock, write_checkpoint
from uoro.cli.train import gather, split_monitors
from uoro.errors import SettingError, StreamError, StructureError, UOROError
from uoro.training import Run, Settings, read_metrics, read_status
from uoro.training.config import read_settings
from uoro.training.meter import Meter

MINE = '''
"""A user's own problem."""

import numpy as np

from uoro import SGD, UORO, Adam, Streams, load_backend
from uoro.training import Problem


def parts(backend, streams=0, width=3):
    loaded = load_backend(backend)
    xp = loaded.xp

    def transition(params, state, item):
        x, target = item
        state = xp.tanh(params["recurrent"] @ state + params["input"] * x)
        return state, (xp.sum(params["readout"] * state) - target) ** 2

    generator = np.random.default_rng(5)
    params = {
        "recurrent": 0.5 * generator.normal(size=(width, width)),
        "input": generator.normal(size=width),
        "readout": generator.normal(size=width),
    }
    shape = (streams, width) if streams else (width,)
    return loaded.dynamics(transition), params, np.zeros(shape)


def item(i, streams=0):
    shape = (streams,) if streams else ()
    numbers = np.random.default_rng(i).normal(size=(2, *shape))
    return numbers[0], numbers[1]


class Numbers:
    """Items that know where they are."""

    def __init__(self, end=None):
        self.position, self.end = 0, end
        self.drawn = []

    def __iter__(self):
        return self

    def __next__(self):
        if self.position == self.end:
            raise StopIteration
        self.position += 1
        self.drawn.append(self.position - 1)
        return item(self.position - 1)

    def seek(self, position):
        self.position = position


def four(backend="autograd", end=None, seekable=True):
    stream = Numbers(end)
    return *parts(backend), stream if seekable else iter(stream.__next__, None)


def five(backend="autograd"):
    return *four(backend), SGD(0.02)


def problem(backend="autograd"):
    return Problem(*four(backend), optimizer=Adam(0.01), title="Mine", loss_name="squares")


def streams(backend="autograd"):
    several = (item(i, 4) for i in range(10**9))
    return Problem(*parts(backend, 4), several, estimator=Streams(UORO(), 4))


def broken(backend="autograd", at=25, how="shape", seekable=True, mended=False):
    class Broken(Numbers):
        def __next__(self):
            if self.position == at and not mended:
                self.position += 1
                if how == "raise":
                    raise OSError("the sensor is gone")
                x = np.asarray(np.nan) if how == "nan" else np.zeros(2) if how == "shape" else "?"
                return x, np.asarray(0.0)
            return super().__next__()

    stream = Broken()

    def plain():
        while True:
            yield next(stream)

    return *parts(backend), stream if seekable else plain()


def nothing():
    return 3


def own_optimizer(learning_rate):
    return Adam(learning_rate)


def old_optimizer(rate):
    return Adam(rate)
'''


@pytest.fixture(autouse=True)
def _no_figures(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    if "figures" not in request.fixturenames:
        monkeypatch.setattr("uoro.training.record.draw_runs", lambda path, runs: None)


@pytest.fixture
def figures() -> None:
    """Have figures drawn, which takes longer than anything else."""


@pytest.fixture
def mine(tmp_path: Path) -> str:
    """Write the user's module, and give how it is spelled up to the factory."""
    (tmp_path / "mine.py").write_text(MINE)
    return f"{tmp_path / 'mine.py'}:"


BREAKS = ("shape", "text", "raise")


# Settings.


def test_flags_a_file_and_assignments_give_the_same_settings(tmp_path: Path) -> None:
    flags = {
        "task": "anbn", "steps": 40, "backend": "autograd", "network.cell": "rnn",
        "network.units": 3, "checkpoints.every": 10, "metrics.every": 7,
        "optimizer.learning_rate": 0.5, "estimator": "uoro",
    }  # fmt: skip
    rest = ["chunk=10", "metrics.recent=20", "options.k=2"]
    table = TINY | {"optimizer": {"learning_rate": 0.5}, "options": {"k": 2}}
    (tmp_path / "run.toml").write_text(tomli_w.dumps(table))
    spelled = [
        'task="anbn"', "steps=40", "backend=autograd", "network.cell=rnn", "network.units=3",
        "checkpoints.every=10", "metrics.every=7", "optimizer.learning_rate=0.5",
        "estimator=uoro",
    ]  # fmt: skip
    wanted = Settings.of(table)
    assert gather(None, None, flags, rest) == wanted
    assert gather(tmp_path / "run.toml", None, {}, []) == wanted
    assert gather(None, None, {}, spelled + rest) == wanted
    assert gather(tmp_path / "run.toml", None, {"steps": 50}, ["chunk=3"]) == settings(
        steps=50, chunk=3, optimizer={"learning_rate": 0.5}, options={"k": 2}
    )


def test_the_complete_settings_are_written_and_make_the_same_run(tmp_path: Path) -> None:
    assert command(
        *("train", "anbn", "--backend", "autograd", "--model", "rnn", "--units", "3"),
        *("--steps", "20", "--out", tmp_path / "one"),
    ).status == 0  # fmt: skip
    written = read_settings(tmp_path / "one" / "config.toml")
    assert written["optimizer"] == {
        "name": "adam", "learning_rate": 0.001, "schedule": "inverse_sqrt", "decay": 0.03,
    }  # fmt: skip
    assert (written["dtype"], written["seed"], written["chunk"]) == ("float32", 0, 256)
    config = tmp_path / "one" / "config.toml"
    assert command("train", "--config", config, "--out", tmp_path / "two").status == 0
    require_same(tmp_path / "one", tmp_path / "two")
    assert (tmp_path / "two" / "config.toml").read_text() == config.read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "expected a task, got none"),
        (["anbm"], "there is no task 'anbm'. Did you mean 'anbn'?"),
        (["anbn", "--set", "chunks=3"], "no setting 'chunks'. Did you mean 'chunk'?"),
        (["anbn", "--set", "network.unit=3"], "Did you mean 'network.units'?"),
        (["anbn", "--set", "network=3"], "network: expected a table, got 3"),
        (["anbn", "--set", "chunk=1.5"], "chunk: expected an integer >= 1, got 1.5"),
        (["anbn", "--set", "chunk=true"], "chunk: expected an integer >= 1, got True"),
        (["anbn", "--set", "stall=soon"], "stall: expected a number > 0, got 'soon'"),
        (["anbn", "--set", "monitors=[1]"], "expected a list of texts, got [1]"),
        (["anbn", "--set", "nothing"], "--set: expected KEY=VALUE, got nothing"),
        (["anbn", "--set", "options.k=1979-05-27"], "options.k: expected numbers, text"),
        (
            ["anbn", "--set", ".".join(["options"] + ["a"] * 3000) + "=1"],
            "expected at most 20 levels of tables",
        ),
        (["anbn", "--set", "options.z=1"], "no option 'z'"),
        (["anbn", "--set", "options.k=0"], "k=0"),
        (["anbn", "--set", "optimizer.beta=1"], "no setting 'beta'"),
        (["anbn", "--steps", "0"], "steps: expected an integer >= 1, got 0"),
        (["anbn", "--seed", "-1"], "seed: expected an integer >= 0"),
        (["anbn", "--units", "0"], "network.units: expected an integer >= 1, got 0"),
        (["anbn", "--model", "gro"], "no model 'gro'. Did you mean 'gru'?"),
        (["anbn", "--checkpoint-every", "0"], "checkpoints.every: expected an integer >= 1, got 0"),
        (["anbn", "--stall", "0"], "stall: expected a number > 0, got 0"),
        (["anbn", "--stall", "nan"], "stall: expected a number > 0, got nan"),
        (["anbn", "--dtype", "int8"], "dtype: expected one of 'float32', 'float64'"),
        (["anbn", "--on-nonfinite", "hope"], "expected one of 'stop', 'skip', 'reset', got 'hope'"),
        (["anbn", "--backend", "touch"], "Did you mean 'torch'?"),
        (["anbn", "--estimator", "ouro"], "Did you mean 'uoro'?"),
        (["anbn", "--estimator", "bptt"], "one update for a whole run"),
        (["anbn", "--monitors", "pear"], "Did you mean 'pair'?"),
        (["anbn", "--monitors", "pair", "--estimator", "rtrl"], "carries no pairs"),
        (["anbn", "--optimizer", "adm"], "Did you mean 'adam'?"),
        (["anbn", "--optimizer", "optax.adamw"], "expected the backend jax, got autograd"),
        (["anbn", "--optimizer", "torch.Adam"], "expected the backend torch, got autograd"),
        (["anbn", "--learning-rate", "-1"], "expected a positive, finite number"),
        (["anbn", "--schedule", "linear"], "no schedule 'linear'"),
        (["text", "--file", "no-such-book.txt"], "no-such-book.txt"),
        (["no_such_module:make"], "the module 'no_such_module' cannot be found"),
        (["--resume", "nowhere"], "there is no run in this folder"),
        (["--config", "nowhere.toml"], "cannot be read: No such file"),
        (["--resume", "a", "--out", "b"], "expected --out or --resume, got both"),
    ],
)
def test_what_cannot_be_run_is_one_line_and_exit_status_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    if "--backend" not in arguments and "anbn" in arguments:
        arguments = [*arguments, "--backend", "autograd"]
    done = command("train", *arguments)
    assert done.status == 2, done
    assert message in done.errors
    assert done.errors.count("\n") == 1
    assert not list(tmp_path.rglob("config.toml"))


def test_a_run_goes_on_with_its_settings_unless_it_is_told_by_force(tmp_path: Path) -> None:
    folder, other = tmp_path / "run", tmp_path / "other"
    begin(folder, steps=20)
    begin(other, steps=20, seed=1)
    with pytest.raises(SettingError, match=r"got other ones: seed: 0 before, 1"):
        go_on(folder, steps=40, seed=1)
    with pytest.raises(SettingError, match="there is a run in this folder"):
        begin(folder)
    # What cannot be gone on with changes nothing, by force either.
    with pytest.raises(StructureError, match=r"expected shape .*, got .* in what was saved"):
        go_on(folder, force=True, network={"units": 4})
    assert go_on(folder).reason == "20 steps are done"
    assert "resuming with another setting" not in (folder / "log.txt").read_text()
    ended = go_on(
        folder, steps=30, checkpoints={"every": 4, "keep": 2}, metrics={"every": 5, "recent": 9}
    )
    assert ended.step == 30
    assert len(Checkpoints(folder / "checkpoints").paths()) == 2
    assert go_on(folder, steps=40, force=True, optimizer={"learning_rate": 0.1}).step == 40
    assert (
        "resuming with another setting: optimizer.learning_rate: 0.001 before, 0.1 now"
        in (folder / "log.txt").read_text()
    )
    assert read_settings(folder / "config.toml")["optimizer"]["learning_rate"] == 0.1


def test_checkpoints_of_a_run_without_settings_are_not_written_over(tmp_path: Path) -> None:
    begin(tmp_path, steps=10)
    (tmp_path / "config.toml").unlink()
    with pytest.raises(SettingError, match="checkpoints of another run"):
        begin(tmp_path, steps=10)


JUNK = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=9), st.binary(),
        st.dates(), st.sampled_from(["anbn", "text", "autograd", "uoro:rank=0", "a:b", "x.py:y"]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.one_of(
                st.sampled_from(
                    ["task", "options", "network", "units", "cell", "optimizer", "name",
                     "learning_rate",
                     "steps", "seed", "metrics", "every", "monitors", "learner", "stream", "meter",
                     "recent", "total", "items", "marked", "own", "line", "counts", "spent"]
                ),
                st.text(max_size=5),
            ),
            inner,
            max_size=6,
        ),
    ),
    max_leaves=12,
)  # fmt: skip
MANY = hypothesis_settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@given(JUNK)
@MANY
def test_no_junk_for_settings_raises_anything_of_its_own(junk: Any) -> None:
    tables = [junk]
    if isinstance(junk, dict):
        tables += [{"task": "anbn"} | junk, TINY | junk, *({**TINY, key: junk} for key in TINY)]
    for table in tables:
        try:
            made = Settings.of(table)
        except UOROError:
            continue
        assert Settings.of(made.table()) == made or "nan" in repr(made)


@given(st.one_of(st.binary(max_size=60), JUNK.map(repr).map(str.encode)))
@MANY
def test_no_junk_for_a_file_of_settings_raises_anything_of_its_own(
    tmp_path: Path, junk: bytes
) -> None:
    (tmp_path / "junk.toml").write_bytes(junk)
    (tmp_path / "config.toml").write_bytes(junk)
    for call in (
        lambda: gather(tmp_path / "junk.toml", None, {}, []),
        lambda: gather(None, tmp_path, {"steps": 3}, []),
        lambda: Run(None, tmp_path, resume=True),
    ):
        with pytest.raises(UOROError):
            call()


def test_no_junk_in_a_checkpoint_raises_anything_of_its_own(tmp_path: Path) -> None:
    begin(tmp_path, steps=10, noise="shared")
    (path,) = Checkpoints(tmp_path / "checkpoints").paths()
    found = Checkpoints(tmp_path / "checkpoints").latest()
    assert found is not None
    whole = found.snapshot.document
    places = [
        (), *((key,) for key in whole), *(("learner", key) for key in whole["learner"]),
        *(("stream", key) for key in whole["stream"]), *(("meter", key) for key in whole["meter"]),
        *(("spent", key) for key in whole["spent"]), ("stream", "own", "held"),
    ]  # fmt: skip

    @given(st.sampled_from(places), JUNK)
    @MANY
    def junk_there(place: tuple[str, ...], junk: Any) -> None:
        document = json.loads(json.dumps(whole))
        inner = document
        for key in place[:-1]:
            inner = inner[key]
        if place:
            inner[place[-1]] = junk
        try:
            write_checkpoint(path, Snapshot(found.snapshot.arrays, document if place else {"a": 1}))
        except StructureError:
            return  # JSON cannot say it.
        try:
            ended = go_on(tmp_path)
        except UOROError:
            return
        assert ended.step == 10

    junk_there()


# Going on.


@pytest.mark.parametrize("estimator", ["uoro:rank=2", "tbptt:5,rolling"])
def test_what_one_backend_wrote_another_goes_on_with(tmp_path: Path, estimator: str) -> None:
    over: dict[str, Any] = {
        "dtype": "float64",
        "noise": "shared",
        "estimator": estimator,
        "steps": 24,
    }
    alone = tmp_path / "alone"
    begin(alone, **over)
    wanted = outcome(alone)
    for one in BACKENDS:
        begin(tmp_path / one, **over | {"steps": 12}, backend=one)
    for one, other in permutations(BACKENDS, 2):
        folder = tmp_path / f"{one}-{other}"
        subprocess.run(["cp", "-r", tmp_path / one, folder], check=True)
        done = command(
            *("train", "--resume", folder, "--backend", other, "--steps", "24", "--force")
        )
        assert done.status == 0, done.errors
        found = outcome(folder)
        assert found["status"]["backend"] == other
        assert found["arrays"].keys() == wanted["arrays"].keys()
        for name, array in wanted["arrays"].items():
            assert found["arrays"][name].dtype == array.dtype, name
            np.testing.assert_allclose(found["arrays"][name], array, 1e-9, 1e-12, err_msg=name)
        for mine, theirs in zip(found["metrics"], wanted["metrics"], strict=True):
            assert mine == pytest.approx(theirs, rel=1e-9)


@pytest.mark.parametrize(
    "estimator", ["uoro:rank=2", "uoro:memory=4", "rtrl", "tbptt:4", "tbptt:3,rolling"]
)
def test_every_estimator_goes_on_bit_for_bit(tmp_path: Path, estimator: str) -> None:
    over: dict[str, Any] = {"estimator": estimator}
    assert begin(tmp_path / "whole", **over).step == 40
    assert begin(tmp_path / "parts", stop_at=13, **over).state == "interrupted"
    assert go_on(tmp_path / "parts", stop_at=20).state == "interrupted"
    assert go_on(tmp_path / "parts").state == "done"
    require_same(tmp_path / "whole", tmp_path / "parts")


@pytest.mark.parametrize(
    ("backend", "optimizer"),
    [
        ("autograd", {"name": "adam", "schedule": "inverse", "decay": 0.1}),
        ("autograd", {"name": "sgd", "learning_rate": 0.1, "schedule": "inverse_sqrt"}),
        ("autograd", {"name": "MINE:own_optimizer", "learning_rate": 0.1}),
        ("autograd", {"name": "MINE:old_optimizer", "learning_rate": 0.1}),
        ("autograd", {"name": "MINE:old_optimizer", "rate": 0.1}),
        ("jax", {"name": "optax.adamw", "learning_rate": 0.01, "weight_decay": 0.1}),
        ("torch", {"name": "torch.RMSprop", "learning_rate": 0.01, "momentum": 0.5}),
    ],
)
def test_every_optimizer_goes_on_bit_for_bit(
    tmp_path: Path, mine: str, backend: str, optimizer: dict[str, Any]
) -> None:
    name = optimizer["name"].replace("MINE:", mine)
    over: dict[str, Any] = {"backend": backend, "optimizer": optimizer | {"name": name}}
    begin(tmp_path / "whole", **over)
    begin(tmp_path / "parts", **over, steps=13)
    go_on(tmp_path / "parts", **over)
    require_same(tmp_path / "whole", tmp_path / "parts")
    if backend != "autograd":
        with pytest.raises(SettingError, match=name):
            begin(tmp_path / "bad", backend=backend, optimizer={"name": name, "nonsense": 1})


@given(st.lists(st.lists(st.floats(-1e3, 1e3), max_size=40), max_size=8), st.integers(1, 50))
@MANY
def test_how_losses_come_changes_no_bit_of_their_means(
    losses: list[list[float]], recent: int
) -> None:
    at_once, in_parts, taken_up = (Meter(1, 1.3, recent) for _ in range(3))
    flat = [loss for part in losses for loss in part]
    at_once.add(flat)
    for part in losses:
        in_parts.add(part)
        taken_up.add(part)
        saved = json.loads(json.dumps(taken_up.export()))
        taken_up = Meter(1, 1.3, recent)
        taken_up.restore(saved)
    assert at_once.export() == in_parts.export() == taken_up.export()
    if flat:
        assert at_once.cumulated == pytest.approx(1.3 * np.mean(flat), abs=1e-6)
        longest = max(recent, recent + recent // 16)
        assert at_once.recent == pytest.approx(
            1.3 * np.mean(flat[-min(len(flat), at_once._recent_count) :]), abs=1e-6
        )
        assert min(len(flat), recent) <= at_once._recent_count <= longest


def _process(*arguments: str | Path) -> subprocess.Popen[bytes]:
    code = "from uoro.cli import main; main()"
    return subprocess.Popen(
        [sys.executable, "-c", code, "train", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


@pytest.mark.parametrize(("sent", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_run_that_is_told_to_end_leaves_a_checkpoint(
    tmp_path: Path, sent: signal.Signals, status: int
) -> None:
    folder = tmp_path / "run"
    process = _process(
        *("anbn", "--backend", "autograd", "--model", "rnn", "--units", "3", "--out", folder),
        *("--log-every", "7", "--set", "metrics.recent=20", "--set", "chunk=10"),
        *("--estimator", "uoro"),
    )
    while not (folder / "metrics.jsonl").exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(sent)
    assert process.stdout is not None
    said = process.stdout.read().decode()
    process.stdout.close()
    assert process.wait() == status, said
    assert "interrupted: asked to stop" in said
    assert f"uoro train --resume {folder}" in said.replace("\n", " ")
    interrupted = outcome(folder)
    step = interrupted["document"]["learner"]["steps"]
    assert interrupted["status"]["state"] == "interrupted"
    assert interrupted["status"]["step"] == step > 0
    assert interrupted["metrics"][-1]["step"] == step
    steps = step + 9
    go_on(folder, steps=steps, checkpoints={})
    begin(tmp_path / "whole", steps=steps)
    require_same(tmp_path / "whole", folder)


# A user's own.


@pytest.mark.parametrize("factory", ["four", "five", "problem", "streams"])
def test_a_factory_is_trained_and_gone_on_with(tmp_path: Path, mine: str, factory: str) -> None:
    over: dict[str, Any] = {"task": mine + factory}
    assert begin(tmp_path / "whole", **over).step == 40
    begin(tmp_path / "parts", **over, steps=13)
    go_on(tmp_path / "parts", **over)
    require_same(tmp_path / "whole", tmp_path / "parts")
    found = outcome(tmp_path / "whole")
    assert found["arrays"]["params/input"].dtype == np.float64, "as made"
    assert found["status"]["title"] == ("Mine" if factory == "problem" else mine + factory)
    assert np.isfinite(found["status"]["recent"])


@pytest.mark.parametrize(
    ("backend", "seekable", "estimator"),
    [
        ("autograd", True, "tbptt:4,rolling"),
        ("autograd", False, "tbptt:4,rolling"),
        ("autograd", True, "tbptt:3"),
        ("autograd", False, "tbptt:3"),
        ("torch", True, "uoro:memory=3"),
        ("jax", True, "tbptt:4,rolling"),
        ("jax", False, "tbptt:3"),
    ],
)
def test_a_stream_is_found_again_where_it_was(
    tmp_path: Path, mine: str, backend: str, seekable: bool, estimator: str
) -> None:
    over: dict[str, Any] = {
        "task": mine + "four", "options": {"backend": backend, "end": 60, "seekable": seekable},
        "steps": 100, "dtype": "float32", "estimator": estimator,
    }  # fmt: skip
    span = 1 if "rolling" in estimator else 3
    ended = begin(tmp_path / "whole", **over)
    assert (ended.state, ended.reason, ended.step) == ("done", "the stream has ended", 60 // span)
    begin(tmp_path / "parts", **over | {"steps": 13})
    assert go_on(tmp_path / "parts", **over).reason == "the stream has ended"
    require_same(tmp_path / "whole", tmp_path / "parts")
    said = (tmp_path / "parts" / "log.txt").read_text()
    assert ("13 items are dropped" in said) != seekable


def test_a_stream_that_is_shorter_than_before_is_refused(tmp_path: Path, mine: str) -> None:
    over: dict[str, Any] = {"task": mine + "four", "steps": 20}
    begin(tmp_path, **over, options={"seekable": False})
    with pytest.raises(StreamError, match=r"expected 20 items.* got a stream that ended after 15"):
        go_on(tmp_path, **over, options={"seekable": False, "end": 15}, force=True)


@pytest.mark.parametrize(
    ("backend", "how", "seekable"),
    [
        *(("autograd", how, seekable) for how in BREAKS for seekable in (True, False)),
        ("jax", "shape", True),
        ("jax", "raise", False),
    ],
)
def test_a_stream_that_breaks_fails_the_run_and_it_goes_on_once_mended(
    tmp_path: Path, mine: str, backend: str, seekable: bool, how: str
) -> None:
    options = {"backend": backend, "seekable": seekable, "how": how}
    over: dict[str, Any] = {
        "task": mine + "broken",
        "dtype": "float32",
        "checkpoints": {"every": 100},
    }
    folder = tmp_path / "run"
    if how == "raise":
        with pytest.raises(OSError, match="the sensor is gone"):
            begin(folder, **over, options=options)
    else:
        ended = begin(folder, **over, options=options)
        assert ended.state == "failed"
        assert "item 25 of the stream is malformed" in ended.reason
    status = read_status(folder)
    assert (status["state"], status["step"]) == ("failed", 25)
    assert ("the sensor is gone" in status["reason"]) == (how == "raise")
    assert outcome(folder)["document"]["learner"]["steps"] == 25
    go_on(folder, **over, options=options | {"mended": True}, force=True)
    begin(tmp_path / "whole", **over, options=options | {"mended": True})
    require_same(tmp_path / "whole", folder)


def test_a_failed_run_has_exit_status_1(tmp_path: Path, mine: str) -> None:
    done = command("train", mine + "broken", "--estimator", "tbptt:5", "--out", tmp_path / "run")
    assert done.status == 1, done
    assert "item 25 of the stream is malformed" in done.output.replace("\n", " ")


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        ("nothing", "expected dynamics, params, state, stream .* got a int"),
        ("fore", "Did you mean 'four'|no function 'fore'"),
    ],
)
def test_a_factory_that_makes_something_else_is_refused(
    tmp_path: Path, mine: str, factory: str, message: str
) -> None:
    with pytest.raises(UOROError, match=message):
        begin(tmp_path / "run", task=mine + factory)
    with pytest.raises(SettingError, match="unexpected keyword argument 'z'"):
        begin(tmp_path / "run", task=mine + "four", options={"z": 1})


# What goes wrong.


@pytest.mark.parametrize("backend", BACKENDS)
def test_numbers_that_are_not_finite_stop_a_run_or_are_left_out(
    tmp_path: Path, mine: str, backend: str
) -> None:
    options = {"backend": backend, "how": "nan"}
    over: dict[str, Any] = {"task": mine + "broken", "dtype": "float32", "options": options}
    stopped = begin(tmp_path / "stop", **over, checkpoints={"every": 100})
    assert stopped.state == "failed"
    assert stopped.step == 25
    assert outcome(tmp_path / "stop")["document"]["learner"]["steps"] == 25
    assert read_status(tmp_path / "stop")["state"] == "failed"
    choices = {"skip": {"skipped": 1}, "reset": {"skipped": 1, "reset": 1}}
    if backend == "jax":  # which takes seconds to begin
        del choices["reset"]
    else:
        again = go_on(tmp_path / "stop")
        assert (again.state, again.step) == ("failed", 25)
    for choice, events in choices.items():
        folder = tmp_path / choice
        assert begin(folder, **over, on_nonfinite=choice).state == "done"
        seen = {
            r["event"]: r["count"] for r in read_metrics(folder / "metrics.jsonl") if "event" in r
        }
        assert seen == events
        status = read_status(folder)
        assert status["skipped"] == 1
        assert status["resets"] == events.get("reset", 0)
    go_on(tmp_path / "stop", **over, on_nonfinite="skip", force=True, checkpoints={"every": 10})
    stop, skip = outcome(tmp_path / "stop"), outcome(tmp_path / "skip")
    for name, array in skip["arrays"].items():
        np.testing.assert_array_equal(stop["arrays"][name], array, name)


def _full(monkeypatch: pytest.MonkeyPatch, folder: Path, which: Callable[[str], bool]) -> None:
    """Have the disk be full for some files of a run."""
    real = os.write

    def write(handle: int, data: Any) -> int:
        path = os.readlink(f"/proc/self/fd/{handle}")
        if path.startswith(str(folder)) and which(path):
            real(handle, bytes(data)[: len(data) // 2])
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(handle, data)

    monkeypatch.setattr(os, "write", write)


def test_a_full_disk_does_not_end_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, folder = tmp_path / "whole", tmp_path / "full"
    begin(whole)
    with monkeypatch.context() as patch:
        step = 0

        def full(path: str) -> bool:
            return 10 <= step < 25 and not path.endswith(".txt")

        def watch(live: Any) -> None:
            nonlocal step
            step = live.step

        _full(patch, folder, full)
        ended = Run(settings(), folder).go(watch=watch)
    assert ended.state == "done"
    said = (folder / "log.txt").read_text()
    assert "No space left on device" in said
    assert "The run continues, and tries again at the next one" in said
    assert "is written again: no line is lost" in said
    events = [r for r in read_metrics(folder / "metrics.jsonl") if "event" in r]
    assert [(r["event"], r["step"]) for r in events] == [
        ("checkpoint failed", 10), ("checkpoint failed", 20),
    ]  # fmt: skip
    one, two = outcome(whole), outcome(folder)
    assert one["metrics"] == [line for line in two["metrics"] if "event" not in line]
    for name, array in one["arrays"].items():
        np.testing.assert_array_equal(two["arrays"][name], array, name)
    assert not list(folder.rglob("*.part"))


def test_a_disk_that_is_full_at_the_end_is_a_failure_that_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for which, missing in (("/.step-", "the last checkpoint is missing"),
                           ("metrics.jsonl", "lines of metrics could not be written")):  # fmt: skip
        folder = tmp_path / which[:3].strip("/.")
        with monkeypatch.context() as patch:
            _full(patch, folder, lambda path, which=which: which in path)  # type: ignore[misc]
            done = command(
                *("train", "anbn", "--backend", "autograd", "--units", "3", "--steps", "20"),
                *("--log-every", "5", "--out", folder),
            )
        assert done.status == 1
        assert missing in done.output.replace("\n", " ")
        assert read_status(folder)["state"] == "failed"
    ended = go_on(tmp_path / "s")
    assert (ended.state, ended.step) == ("done", 20)


@pytest.mark.parametrize("damage", ["cut", "flip", "foreign"])
def test_a_damaged_checkpoint_is_passed_over(tmp_path: Path, damage: str) -> None:
    whole, folder = tmp_path / "whole", tmp_path / "run"
    begin(whole, steps=40)
    begin(folder, steps=30)
    paths = Checkpoints(folder / "checkpoints").paths()

    def spoil(path: Path) -> None:
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 4
        cut = data[: len(data) // 2]
        path.write_bytes(
            {"cut": bytes(cut), "flip": bytes(data), "foreign": b"\x89PNG" * 100}[damage]
        )

    spoil(paths[-1])
    assert go_on(folder, steps=40).step == 40
    said = (folder / "log.txt").read_text()
    assert "Using step-000000000020.safetensors instead." in said
    assert "resuming from step-000000000020.safetensors" in said
    require_same(whole, folder)
    for path in Checkpoints(folder / "checkpoints").paths():
        spoil(path)
    done = command("train", "--resume", folder)
    assert done.status == 2
    assert "checkpoints is whole" in done.errors


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    begin(tmp_path / "one", steps=10)
    begin(tmp_path / "two", steps=10, network={"cell": "gru"})
    (path,) = Checkpoints(tmp_path / "two" / "checkpoints").paths()
    (tmp_path / "one" / "checkpoints" / path.name).write_bytes(path.read_bytes())
    with pytest.raises(StructureError, match="Build the learner of the same model"):
        go_on(tmp_path / "one")


def test_a_second_run_in_a_folder_is_refused(tmp_path: Path) -> None:
    begin(tmp_path, steps=10)
    second = []

    def watch(live: Any) -> None:
        second.append(command("train", "--resume", tmp_path, "--steps", "30"))

    before = (tmp_path / "config.toml").read_text()
    ended = Run(settings(steps=20), tmp_path, resume=True).go(watch=watch)
    assert (ended.state, ended.step) == ("done", 20)
    assert second[0].status == 2
    assert f"process {os.getpid()}" in second[0].errors
    assert before.replace("steps = 10", "steps = 20") == (tmp_path / "config.toml").read_text()
    with run_lock(tmp_path / "new"):
        taken = command("train", "anbn", "--backend", "autograd", "--out", tmp_path / "new")
    assert taken.status == 2


# What is looked at.


def test_what_a_run_writes_can_be_looked_at(
    tmp_path: Path, figures: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "book.txt").write_text("the cat sat on the mat.\n" * 20)
    done = command(
        *("train", "text", "--file", "book.txt", "--backend", "autograd", "--units", "4"),
        *("--steps", "40", "--log-every", "10", "--tensorboard", "--monitors", "pair,radius"),
        *("--estimator", "uoro"),
    )
    assert done.status == 0, done.errors
    folder = tmp_path / "runs" / "text-1"
    assert (folder / "curve.png").read_bytes().startswith(b"\x89PNG")
    (events,) = (folder / "tensorboard").iterdir()
    assert b"cumulated" in events.read_bytes()
    assert b"pair/" in events.read_bytes()

    one, other = (command("sample", folder, "--length", "30", "--seed", s) for s in "12")
    assert len(one.output) == 30 + len("\n")
    assert one.output != other.output
    greedy = {
        command("sample", folder, *("--length", "9", "--temperature", "0", "--seed", s)).output
        for s in "12"
    }
    assert len(greedy) == 1
    prompted = command("sample", folder, "--length", "5", "--prompt", "the ")
    assert prompted.output.startswith("the ")
    assert len(prompted.output) == len("the ") + 5 + len("\n")
    strange = command("sample", folder, "--prompt", "Z")
    assert strange.status == 2
    assert "expected symbols of the model's alphabet" in strange.errors
    assert "got 'Z'" in strange.errors
    assert command("sample", tmp_path).status == 2

    listed = command("runs")
    assert "text-1" in listed.output
    assert "done" in listed.output
    assert command("plot", folder, "--monitors", "pair").output == (
        f"Written: {folder / 'curve.png'}\n"
    )


def test_every_command_about_runs_shows_an_example() -> None:
    for name in ("train", "sample", "runs", "plot", "check", "bench", "reproduce"):
        assert "Example: uoro" in command(name, "--help").output, name


def test_monitors_are_written_and_change_no_number_of_a_run(tmp_path: Path) -> None:
    assert split_monitors(["pair, noise:replicas=4,every=2", "shadow"]) == [
        "pair", "noise:replicas=4,every=2", "shadow",
    ]  # fmt: skip
    assert split_monitors(None) is None
    begin(tmp_path / "alone")
    begin(tmp_path / "watched", monitors=["pair", "radius"])
    one, two = outcome(tmp_path / "alone"), outcome(tmp_path / "watched")
    assert one["arrays"].keys() == two["arrays"].keys()
    for name, array in one["arrays"].items():
        np.testing.assert_array_equal(two["arrays"][name], array, name)
    for bare, line in zip(one["metrics"], two["metrics"], strict=True):
        assert bare.items() <= line.items()
        assert {name.partition("/")[0] for name in set(line) - set(bare)} == {"pair", "radius"}


@pytest.mark.parametrize("monitor", ["shadow", "shadow:window=3"])
def test_a_shadow_goes_on_bit_for_bit(tmp_path: Path, monitor: str) -> None:
    over: dict[str, Any] = {"monitors": [monitor], "dtype": "float64"}
    begin(tmp_path / "alone", dtype="float64")
    begin(tmp_path / "whole", **over)
    begin(tmp_path / "parts", **over, stop_at=20)
    go_on(tmp_path / "parts", **over)
    require_same(tmp_path / "whole", tmp_path / "parts")
    one, two = outcome(tmp_path / "alone"), outcome(tmp_path / "whole")
    for name, array in one["arrays"].items():
        if name.startswith("params/"):
            np.testing.assert_array_equal(two["arrays"][name], array, name)
    assert any(name.startswith("shadow") for name in two["metrics"][-1])
