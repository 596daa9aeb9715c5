"""The suite as a stranger runs it: by its command, under pytest, and on a third party's backend."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, ClassVar

import pytest
from suite_runs import run as _run
from suite_runs import run_suite_command as _suite
from uoro_conformance.cases import Case, Session, run_case
from uoro_conformance.finding import Finding
from uoro_conformance.profiles import PROFILES, profile_named
from uoro_conformance.report import Entry, ExpectedFailures, Report
from uoro_conformance.running import choose_cases, choose_seed, run_suite
from uoro_conformance.suite import cases

from uoro import load_backend
from uoro.errors import SettingError, UnknownNameError

HANDMADE = Path(__file__).parent / "handmade"

PARTS = ("backend", "derivatives", "parity", "streams", "sampling")
"""Parts of the suite that are run where any laws would do."""


def test_a_compiled_backend_meets_no_new_shapes_with_more_systems() -> None:
    """The bound on compilation, counted where it costs nothing."""

    class Compiled:
        compiled = True

        def __getattr__(self, name: str) -> Any:
            return getattr(load_backend("autograd"), name)

    few = Session(Compiled(), PROFILES["dev"])
    for case in choose_cases(PROFILES["dev"], ["*/derivatives/adjoint", "*/exact/equivariance/*"]):
        run_case(case, few).require()
    assert {shape[:2] for shape in few.shapes} == {
        (system.kind, system.n) for system in PROFILES["dev"].gallery
    }


def test_profiles_differ_in_amount_and_only_thorough_tests_the_suite_itself() -> None:
    names = [[case.id for case in cases(PROFILES[name])] for name in ("dev", "ci", "thorough")]
    self_test = [f"float64/self-test/{name}" for name in ("wrong", "right", "dynamics")]
    assert names[0] == names[1] == names[2][:-3]
    assert names[2][-3:] == self_test
    assert PROFILES["dev"].examples < PROFILES["ci"].examples < PROFILES["thorough"].examples
    with pytest.raises(UnknownNameError, match="Did you mean 'thorough'"):
        profile_named("through")


# Seeds, expectations, reports, exit statuses.


def test_seeds_are_fixed_given_or_fresh() -> None:
    assert choose_seed(None, False) == 0
    assert choose_seed(7, False) == 7
    assert len({choose_seed(None, True) for _ in range(5)}) > 1
    with pytest.raises(SettingError, match="expected one of them, got both"):
        choose_seed(1, True)
    with pytest.raises(
        SettingError, match=r"--seed -1: seed: expected an integer in \[0, 2\*\*63\), got -1"
    ):
        choose_seed(-1, False)


def test_the_seed_changes_what_is_drawn() -> None:
    backend, only = load_backend("autograd"), ["float64/derivatives/adjoint"]
    gaps = [
        run_suite(backend, PROFILES["dev"], seed=seed, only=only).entries[0].finding.gap
        for seed in (0, 0, 1)
    ]
    assert gaps[0] == gaps[1] != gaps[2]


def _report(*verdicts: Any, expected: bool = False) -> Report:
    entries = [
        Entry(str(i), Finding("law", verdict, 1.0, 2.0, "why"), 0.1, expected)
        for i, verdict in enumerate(verdicts)
    ]
    return Report("subject", {}, entries)


@pytest.mark.parametrize(
    ("verdicts", "status"),
    [
        (["holds", "not checked"], 0),
        (["not checked"], 3),
        ([], 3),
        (["holds", "biased", "undecided"], 1),
        (["broken"], 1),
        (["not Algorithm 1"], 1),
        (["holds", "undecided"], 3),
        (["unverifiable"], 3),
    ],
)
def test_the_exit_status_says_what_was_found(verdicts: list[Any], status: int) -> None:
    assert _report(*verdicts).exit_status == status


def test_what_is_expected_to_fail_does_not_count_but_is_said() -> None:
    report = _report("biased", "holds", expected=True)
    assert report.exit_status == 0
    assert report.counts == {"expected": 1, "holds": 1}
    expected = ExpectedFailures(["# why", "float64/parity/*  # another epsilon", "", "nothing"])
    assert "float64/parity/uoro" in expected
    assert "float32/parity/uoro" not in expected
    assert expected.unmatched(["float64/parity/uoro"]) == ["nothing"]


def test_expectations_that_match_nothing_are_warned_of(tmp_path: Path) -> None:
    file = tmp_path / "xfails.txt"
    file.write_text("float64/derivatives/adjoint\nno/such/law\n", encoding="utf-8")
    arguments = ["autograd", "--profile", "dev", "--only", "float64/derivatives/*"]
    done, report = _suite(tmp_path, *arguments, "--xfails-file", str(file), "--seed", "5")
    assert done.returncode == 0, done.stderr
    assert "'no/such/law' matches no case" in done.stdout
    assert "though expected to fail" in done.stdout
    assert "seed 5" in done.stdout
    assert report["settings"]["seed"] == 5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["jaxx"], "Did you mean 'jax'"),
        ([], "expected one backend or --all. Registered: autograd, jax, torch"),
        (["autograd", "--profile", "quick"], "there is no profile 'quick'"),
        (["autograd", "--only", "nothing"], "expected a pattern that matches a law"),
        (["autograd", "--xfails-file", "missing.txt"], "expected a readable text file"),
        (["autograd", "--seed", "1", "--vary-seed"], "expected one of them, got both"),
        (["autograd", "--report", "no/such/folder.json"], "expected a writable path"),
    ],
)
def test_what_cannot_be_run_as_asked_is_one_line_and_status_2(
    arguments: list[str], message: str, tmp_path: Path
) -> None:
    done = _run(["uoro_conformance", *arguments], tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_infinities_and_nan_survive_json(tmp_path: Path) -> None:
    found = Finding("law", "biased", float("inf"), float("nan"), "why")
    path = tmp_path / "report.json"
    Report("subject", {}, [Entry("id", found, 0.0)]).write_json(path)
    entry = json.loads(path.read_text(encoding="utf-8"))["findings"][0]
    assert (entry["gap"], entry["allowed"]) == ("inf", None)
    with pytest.raises(SettingError, match="expected a writable path"):
        _report("holds").write_json(tmp_path / "no" / "folder.json")


def test_what_a_check_raises_is_a_finding() -> None:
    def fails(session: Session) -> Finding:
        raise ZeroDivisionError("on purpose")

    session = Session(load_backend("autograd"), PROFILES["dev"])
    finding = run_case(Case("float64/some/law", ("float64",), fails), session)
    assert finding.verdict == "broken"
    assert "ZeroDivisionError: on purpose" in finding.evidence


def test_what_a_backend_lacks_is_not_checked_and_says_why() -> None:
    class Limited:
        lacks: ClassVar = {"float32": "it computes in float64 alone", "spherical": "why?"}

        def __getattr__(self, name: str) -> Any:
            return getattr(load_backend("autograd"), name)

    only = ["float32/backend/*", "float64/sampling/gaussian", "float64/backend/norm"]
    report = run_suite(Limited(), PROFILES["dev"], only=only)
    verdicts = {entry.id: entry.finding for entry in report.entries}
    assert verdicts.pop("float64/backend/norm").holds
    assert {finding.verdict for finding in verdicts.values()} == {"not checked"}
    assert "it computes in float64 alone" in verdicts["float32/backend/norm"].evidence
    assert report.exit_status == 0


def test_a_backend_with_float32_alone_is_checked_in_it() -> None:
    class Single:
        lacks: ClassVar = dict.fromkeys(("float64", "gaussian", "spherical"), "on purpose")

        def __getattr__(self, name: str) -> Any:
            return getattr(load_backend("torch"), name)

    only = [f"*/{part}/*" for part in PARTS]
    report = run_suite(Single(), PROFILES["dev"], only=only)
    verdicts = {entry.id: entry.finding.verdict for entry in report.entries}
    assert set(verdicts.values()) == {"holds", "not checked"}, report.entries
    for name in ("parity/uoro", "streams/uoro", "sampling/signs", "sampling/mean"):
        assert verdicts[f"float32/{name}"] == "holds"
    assert report.exit_status == 0


def test_a_precision_that_cannot_be_entered_is_a_finding() -> None:
    class Unlucky:
        def __getattr__(self, name: str) -> Any:
            return getattr(load_backend("autograd"), name)

        def precision(self, dtype: str) -> Any:
            raise RuntimeError(f"no {dtype} today")

    report = run_suite(Unlucky(), PROFILES["dev"], only=["*/backend/norm"])
    assert {entry.finding.verdict for entry in report.entries} == {"broken"}
    assert "no float64 today" in report.entries[0].finding.evidence


# Under pytest, as in a framework author's own CI.


def test_the_suite_runs_under_pytest_from_anywhere(tmp_path: Path) -> None:
    file = tmp_path / "xfails.txt"
    file.write_text("float64/*/norm\nnothing\n", encoding="utf-8")
    arguments = ["--pyargs", "uoro_conformance", "-p", "uoro_conformance.plugin"]
    options = ["--backend", "autograd", "--profile", "dev", "--seed", "3", "--report", "r.json"]
    some = ["-k", " or ".join(f"float64/{part}/" for part in PARTS)]
    done = _run(["pytest", *arguments, *options, *some, "--xfails-file", str(file)], tmp_path)
    assert done.returncode == 0, done.stdout
    chosen = choose_cases(PROFILES["dev"], [f"float64/{part}/*" for part in PARTS])
    assert f"{len(chosen)} passed" in done.stdout
    assert "backend autograd, profile dev, seed 3" in done.stdout
    assert "'nothing' matches no case" in done.stdout
    report = json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))
    assert report["counts"] == {"holds": len(chosen)}
    assert report["false_alarm"] <= 1e-9


@pytest.mark.parametrize(
    ("options", "message"),
    [([], "expected --backend NAME, got none"), (["--backend", "jaxx"], "Did you mean 'jax'")],
)
def test_pytest_says_what_is_missing(options: list[str], message: str, tmp_path: Path) -> None:
    arguments = ["--pyargs", "uoro_conformance", "-p", "uoro_conformance.plugin"]
    done = _run(["pytest", *arguments, *options], tmp_path)
    assert done.returncode == 4
    assert message in done.stderr


# A third party's backend: a distribution of its own, found through its entry point.


def _install(source: Path, target: Path) -> None:
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--target", str(target)]
    done = _run(["pip", "install", *options, str(source)], source.parent)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def handmade(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install it into a folder of its own, from a copy: building leaves things behind."""
    folder = tmp_path_factory.mktemp("handmade")
    shutil.copytree(HANDMADE, folder / "source")
    _install(folder / "source", folder / "target")
    return folder / "target"


@pytest.mark.parametrize(
    "only", ["float64/*", pytest.param("float32/*", marks=pytest.mark.thorough)]
)
def test_a_third_partys_backend_is_found_and_passes(
    handmade: Path, tmp_path: Path, only: str
) -> None:
    done, report = _suite(tmp_path, "handmade", "--profile", "dev", "--only", only, path=handmade)
    assert done.returncode == 0, done.stdout + done.stderr
    count = len(choose_cases(PROFILES["dev"], [only]))
    assert report["counts"] == {"holds": count - 2, "not checked": 2}, "as its `lacks` says"
    listed = _run(["uoro_conformance", "--list"], tmp_path, handmade)
    assert "float64/exact/chain/uoro" in listed.stdout


def test_a_copy_with_one_sign_flipped_is_refused_with_law_values_and_system(
    tmp_path: Path,
) -> None:
    copy = tmp_path / "source"
    shutil.copytree(HANDMADE, copy)
    rules = copy / "uoro_handmade" / "rules.py"
    text = rules.read_text(encoding="utf-8")
    assert text.count("1.0 - y * y") == 1
    rules.write_text(text.replace("1.0 - y * y", "1.0 + y * y"), encoding="utf-8")
    _install(copy, tmp_path / "target")
    only = ["--only", "float64/derivatives/*", "--only", "float64/exact/chain/uoro"]
    done, report = _suite(tmp_path, "handmade", "--profile", "dev", *only, path=tmp_path / "target")
    assert done.returncode == 1
    found = {entry["id"]: entry for entry in report["findings"]}
    adjoint = found["float64/derivatives/adjoint"]
    assert adjoint["verdict"] == "broken"
    assert "<u, Jv> =" in adjoint["evidence"]
    # The simplest kind with a tanh, of the smallest size.
    assert adjoint["system"].startswith("System(kind='tied', n=2, steps=3, seed=")
    assert found["float64/derivatives/true"]["verdict"] == "holds", "the vjp is right"
    assert found["float64/exact/chain/uoro"]["verdict"] == "biased"
    assert "jvp and vjp are adjoint: broken" in done.stdout


def test_a_backend_asked_for_by_name_fails_without_its_framework(
    handmade: Path, tmp_path: Path
) -> None:
    """By name it is an error; in a sweep over all it is skipped, with the reason."""
    blocked = tmp_path / "blocked"
    blocked.mkdir()
    for name in ("jax", "torch"):
        (blocked / f"{name}.py").write_text(
            f"raise ModuleNotFoundError('no {name}', name='{name}')\n", encoding="utf-8"
        )
    done = _run(["uoro_conformance", "jax", "--profile", "dev"], tmp_path, blocked)
    assert done.returncode == 2
    assert "pip install 'uoro[jax]'" in done.stderr
    arguments = ["--all", "--profile", "dev", "--only", "float64/backend/norm"]
    done = _run(["uoro_conformance", *arguments, "--report", "r.json"], tmp_path, blocked)
    assert done.returncode == 0, done.stderr
    assert "skipped jax" in done.stdout
    assert "uoro[jax]" in done.stdout
    assert sorted(path.name for path in tmp_path.glob("*.json")) == ["r-autograd.json"]
