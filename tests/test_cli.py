"""The commands as a user types them."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from uoro import Learner
from uoro.cli import app as app_module
from uoro.cli import main
from uoro.estimators import Truncated
from uoro.lab.compare import Compared
from uoro.lab.compare.compare import _verdict
from uoro.lab.compare.curve import Curve
from uoro.tasks import influence_balancing


def _run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "from uoro.cli import main; main()", *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        check=False,
    )


def test_compare_prints_a_table_and_writes_curves_and_a_figure(tmp_path: Path) -> None:
    done = _run(
        "compare", "influence-balancing", "--backends", "autograd,torch,jax",
        "--estimators", "uoro,rtrl,tbptt:10,tbptt:5,rolling,bptt", "--steps", "1500",
        "--units", "5", "--minus", "2", "--eager-steps", "300", "--out", "out",
        cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "300 of 1,500" in done.stdout
    assert "tbptt:5,rolling" in done.stdout
    assert (tmp_path / "out" / "compare.png").read_bytes().startswith(b"\x89PNG")
    document = json.loads((tmp_path / "out" / "compare.json").read_text())
    assert document["complete"]
    assert document["reference"] == "autograd"
    cells = {(c["backend"], c["estimator"]): c for c in document["cells"]}
    assert len(cells) == 15
    for (backend, estimator), cell in cells.items():
        assert cell["items"] == (1500 if backend == "jax" else 300)
        assert cell["first_loss"] == pytest.approx(0.5) or estimator == "bptt"
        if backend != "autograd" and (backend, estimator) != ("jax", "bptt"):
            assert cell["compared"] >= 1
            assert cell["deviation"] < 1e-9, (backend, estimator)


def test_compare_text_learns_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "book.txt").write_text("the cat sat on the mat. " * 40)
    done = _run(
        "compare", "text", "--file", "book.txt", "--units", "8", "--steps", "1200",
        "--backends", "jax,torch", "--estimators", "uoro,tbptt:4", "--eager-steps", "400",
        "--learning-rate", "0.01", "--dtype", "float32", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    document = json.loads((tmp_path / "results" / "text" / "compare.json").read_text())
    assert document["settings"]["alphabet"] == "".join(sorted(set("the cat sat on the mat. ")))
    for cell in document["cells"]:
        assert cell["verdict"] == "learning"
        assert cell["recent_loss"] < 3.3 < cell["first_loss"] + 1


def test_a_run_that_explodes_is_named_and_the_others_go_on(tmp_path: Path) -> None:
    done = _run(
        "compare", "influence-balancing", "--backends", "autograd", "--steps", "2000",
        "--estimators", "tbptt:10,rtrl", "--learning-rate", "5", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "diverged, not finite at item" in done.stdout
    cells = json.loads((tmp_path / "results/influence-balancing/compare.json").read_text())["cells"]
    assert [cell["estimator"] for cell in cells] == ["tbptt:10", "rtrl"]
    assert cells[0]["items"] < 2000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["influence-balansing"], "no task 'influence-balansing'. Did you mean 'influence-bal"),
        (["text", "--backends", "touch"], "no backend 'touch'. Did you mean 'torch'?"),
        (["text", "--estimators", "ouro"], "no estimator 'ouro'. Did you mean 'uoro'?"),
        (["text", "--estimators", "uoro:rank=0"], "rank: expected an integer >= 1"),
        (["text", "--estimators", "uoro:memory=0"], "memory: expected an integer >= 1"),
        (["text", "--learning-rate", "-1"], "learning rate: expected a positive, finite number"),
        (["text", "--file", "no-such-book.txt"], "no-such-book.txt"),
        (["text", "--dtype", "int8"], "expected one of 'float32', 'float64'"),
        (["text", "--encoding", "latin"], "expected one of 'utf-8', 'bytes'"),
        (["text", "--malformed", "drop"], "--malformed: expected one of 'stop', 'skip'"),
        (["anbn", "--malformed", "skip"], "no option --malformed"),
        (["influence-balancing", "--steps", "0"], "steps: expected an integer >= 1"),
        (["influence-balancing", "--steps", "5", "--estimators", "rtrl,tbptt:9"], "Raise --steps"),
        (
            ["influence-balancing", "--backends", "autograd", "--steps", "99"],
            "steps: expected 200 items or more, for one update of 'tbptt:200', got 99",
        ),
        (["influence-balancing", "--seed", "-1"], "seed=-1"),
        (["influence-balancing", "--file", "book.txt"], "no option --file"),
        (["text", "--minus", "3"], "no option --minus"),
        (["influence-balancing", "--out", "/proc/x"], "a folder that can be written to"),
        (
            ["influence-balancing", "--estimators", "uoro:rank=2,rank=3"],
            "expected 'rank' once, got it twice",
        ),
        (
            ["influence-balancing", "--minus", "50"],
            "minus: expected an integer <= units (23), got 50",
        ),
        (["text", "--backends", "torch", "--device", "abacus"], "got 'abacus'"),
    ],
)
def test_bad_input_is_one_line_and_exit_status_2(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["uoro", "compare", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    written = capsys.readouterr().err
    assert message in written
    assert written.count("\n") == 1


def test_an_output_folder_that_is_a_file_is_refused_before_anything_runs(tmp_path: Path) -> None:
    (tmp_path / "taken").touch()
    done = _run("compare", "influence-balancing", "--out", "taken", cwd=tmp_path)
    assert done.returncode == 2
    assert "a folder that can be written to, got: File exists" in done.stderr


def test_the_version_is_printed(tmp_path: Path) -> None:
    assert _run("--version", cwd=tmp_path).stdout.startswith("uoro 0.")


def test_bptt_over_different_lengths_is_not_compared(tmp_path: Path) -> None:
    done = _run(
        "compare", "influence-balancing", "--backends", "jax,autograd", "--estimators",
        "bptt", "--steps", "60", "--eager-steps", "20", "--out", "o", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    cells = json.loads((tmp_path / "o" / "compare.json").read_text())["cells"]
    assert [cell["items"] for cell in cells] == [60, 20]
    assert cells[1]["deviation"] is None
    assert cells[1]["compared"] == 0


def test_a_loss_on_its_way_back_is_not_called_diverged() -> None:
    def verdict(*losses: float) -> str:
        curve = Curve()
        curve.add(list(losses))
        curve.finished()
        return _verdict(influence_balancing(), curve)

    up = [0.5 * 1.01**t for t in range(200)]
    assert verdict(*up) == "diverged"
    assert verdict(*up, *reversed(up[50:])) == "undecided"
    assert verdict(*[0.5] * 100) == "flat"
    assert verdict(*[0.5 * 0.9**t for t in range(100)]) == "learning"
    assert verdict(*[0.5 * 0.8**t for t in range(200)]) == "converged"


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.txt").touch()
    done = _run("compare", "text", "--file", "empty.txt", cwd=tmp_path)
    assert done.returncode == 2
    assert "expected at least two characters, got 0" in done.stderr


def test_ctrl_c_keeps_what_was_computed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Learner.run

    def interrupted(self: Learner, *arguments: Any, **options: Any) -> Any:
        if isinstance(self.estimator, Truncated) and self.steps > 10:
            raise KeyboardInterrupt
        return real(self, *arguments, **options)

    monkeypatch.setattr(Learner, "run", interrupted)
    result = CliRunner().invoke(
        app_module.app,
        [
            "compare", "influence-balancing", "--backends", "autograd", "--estimators",
            "rtrl,tbptt:1,tbptt:2", "--steps", "300", "--out", str(tmp_path / "o"),
        ],
    )  # fmt: skip
    assert result.exit_code == 130
    assert "Interrupted in run 2 of 3; the finished runs are written." in result.output
    document = json.loads((tmp_path / "o" / "compare.json").read_text())
    assert not document["complete"]
    assert [Compared(**cell).estimator for cell in document["cells"]] == ["rtrl", "tbptt:1"]
    assert document["cells"][1]["note"] == "interrupted"
    assert 10 < document["cells"][1]["items"] < 300
    assert (tmp_path / "o" / "compare.png").exists()


def test_backends_lists_what_is_there(tmp_path: Path) -> None:
    done = _run("backends", cwd=tmp_path)
    assert done.returncode == 0
    for name in ("autograd", "torch", "jax"):
        assert any(name in line and "yes" in line for line in done.stdout.splitlines())


def test_backends_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    from uoro.cli import backends as backends_module
    from uoro.errors import MissingFrameworkError

    def missing(name: str, **options: Any) -> Any:
        raise MissingFrameworkError(name)

    monkeypatch.setattr(backends_module, "load_backend", missing)
    result = CliRunner().invoke(app_module.app, ["backends"])
    assert "pip install 'uoro[jax]'" in result.output
    assert backends_module.installed_backends() == []


def test_the_command_line_without_its_libraries_says_what_to_install(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['typer'] = None; from uoro.cli import main; "
        "sys.argv = ['uoro']; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.returncode == 2
    assert "pip install 'uoro[cli]'" in done.stderr


def test_every_command_shows_an_example(tmp_path: Path) -> None:
    for command in ("compare", "backends"):
        assert "Example: uoro" in _run(command, "--help", cwd=tmp_path).stdout


COMMANDS = [command.callback.__name__ for command in app_module.app.registered_commands]  # type: ignore[union-attr]  # all have one


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_fits_80_columns_and_wraps_by_itself(
    command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERMINAL_WIDTH", "80")
    result = CliRunner().invoke(app_module.app, [*([command] if command else []), "--help"])
    assert result.exit_code == 0
    lines = result.output.splitlines()
    assert all(len(line.rstrip()) <= 80 for line in lines), result.output
    for word in ("<bool>", "BOOLEAN"):
        assert word not in result.output
    # A line that ends early is the last of its paragraph, as nothing but the width breaks one.
    prose = [line.strip() for line in lines if line.startswith(" ") and "Usage" not in line]
    for line, following in pairwise(prose):
        assert not line or not following or len(f"{line} {following.split()[0]}") > 78


def test_every_option_is_described_in_one_phrase() -> None:
    for command in typer.main.get_command(app_module.app).commands.values():  # type: ignore[attr-defined]  # a group
        for option in command.params:
            if getattr(option, "hidden", False):
                continue
            text = option.help or ""
            assert text, (command.name, option.name)
            assert not text.endswith("."), (command.name, option.name, text)
            assert ". " not in text, (command.name, option.name, text)


def test_an_old_flag_warns_in_one_line(tmp_path: Path) -> None:
    done = _run(
        "compare", "influence-balancing", "--backends", "autograd", "--estimators", "rtrl",
        "--steps", "20", "--rate", "0.01", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0
    assert done.stderr.count("\n") == 1
    assert "--rate is deprecated" in done.stderr
    assert "Write --learning-rate." in done.stderr
    document = json.loads((tmp_path / "results/influence-balancing/compare.json").read_text())
    assert document["settings"]["learning_rate"] == 0.01
    assert "--rate" not in _run("compare", "--help", cwd=tmp_path).stdout
