"""The report of a run, and its JSON."""

from __future__ import annotations

import fnmatch
import json
import math
import platform
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from uoro.errors import SettingError
from uoro_conformance.finding import REFUSALS, Finding

SCHEMA = 1
"""Version of the JSON."""


@dataclass(frozen=True)
class Entry:
    """One line of a report.

    Attributes:
        id: The name of the case.
        finding: The finding.
        seconds: Duration in seconds.
        expected: Whether it was said beforehand that it would fail.
    """

    id: str
    finding: Finding
    seconds: float
    expected: bool = False


@dataclass
class Report:
    """Everything a run found, and what is needed to make it again.

    Attributes:
        subject: Backend or model that was checked, in words.
        settings: The profile, the seed, and whatever else determines the run.
        entries: One for each case, in order.
        notes: Measurements without a verdict.
        warnings: Options that had no effect.
    """

    subject: str
    settings: dict[str, Any]
    entries: list[Entry] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def false_alarm(self) -> float:
        """Bound on the probability that a run like this refuses what is right, by chance."""
        return math.fsum(entry.finding.false_alarm for entry in self.entries)

    @property
    def counts(self) -> Counter[str]:
        """How many entries have each verdict; expected ones count as ``expected``."""
        return Counter(
            "expected" if entry.expected and not entry.finding.holds else entry.finding.verdict
            for entry in self.entries
        )

    @property
    def exit_status(self) -> int:
        """0 if nothing is wrong, 1 if a law is broken, 3 if something, or everything, is open."""
        verdicts = set(self.counts)
        if verdicts & set(REFUSALS):
            return 1
        return 3 if verdicts & {"undecided", "unverifiable"} or "holds" not in verdicts else 0

    @property
    def summary(self) -> str:
        """Summary of the run, in two sentences."""
        said = {"holds": "hold"}
        counts = ", ".join(
            f"{count} {said.get(verdict, verdict)}" for verdict, count in self.counts.most_common()
        )
        chance = (
            f"By chance alone, a run like this refuses what is right with probability at most "
            f"{self.false_alarm:.1e}."
            if self.false_alarm
            else "Nothing was left to chance."
        )
        return f"{self.subject}: of {len(self.entries)} laws {counts}. {chance}"

    def write_json(self, path: Path) -> None:
        """Write it all to a file.

        Raises:
            SettingError: If the file cannot be written.
        """
        document = {
            "schema": SCHEMA,
            "subject": self.subject,
            "settings": self.settings,
            "versions": versions(),
            "exit_status": self.exit_status,
            "false_alarm": self.false_alarm,
            "counts": dict(self.counts),
            "notes": self.notes,
            "warnings": self.warnings,
            "findings": [
                {
                    "id": entry.id,
                    "expected": entry.expected,
                    "seconds": round(entry.seconds, 3),
                    **{
                        name: None if isinstance(value, float) and math.isnan(value) else value
                        for name, value in entry.finding._asdict().items()
                    },
                }
                for entry in self.entries
            ],
        }
        text = json.dumps(_finite(document), indent=1, ensure_ascii=False)
        try:
            path.write_text(text + "\n", encoding="utf-8")
        except OSError as error:
            raise SettingError(
                f"--report {path}: expected a writable path, got: {error.strerror}."
            ) from error


def require_writable(path: Path | None) -> None:
    """Refuse a report that could not be written, before anything is computed.

    Raises:
        SettingError: If its folder is not there, it is a folder itself, or has no possible name.
    """
    if path is None:
        return
    try:
        new = not path.exists()
        path.open("a").close()
        if new:
            path.unlink()
    except (OSError, ValueError) as error:
        raise SettingError(
            f"--report {path}: expected a writable path. Try a file in a folder that exists."
        ) from error


def _finite(value: Any) -> Any:
    """Spell infinities as strings: JSON has none."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return str(value) if isinstance(value, float) and math.isinf(value) else value


def versions() -> dict[str, str]:
    """List the versions that a result may depend on, of what is installed."""
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for name in ("uoro", "numpy", "autograd", "torch", "jax", "jaxlib", "hypothesis"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


class ExpectedFailures:
    """Which cases are said beforehand to fail: one id or pattern a line, ``#`` starts a comment.

    Args:
        lines: The lines of the file.
    """

    def __init__(self, lines: Iterable[str] = ()) -> None:
        stripped = (line.partition("#")[0].strip() for line in lines)
        self.patterns = [line for line in stripped if line]

    @classmethod
    def read(cls, path: Path) -> ExpectedFailures:
        """Read them from a file.

        Raises:
            SettingError: If it cannot be read.
        """
        try:
            return cls(path.read_text(encoding="utf-8").splitlines())
        except (OSError, UnicodeDecodeError) as error:
            raise SettingError(
                f"--xfails-file {path}: expected a readable text file, got: {error}."
            ) from error

    def __contains__(self, name: str) -> bool:
        """Return whether a case is expected to fail."""
        return any(fnmatch.fnmatchcase(name, pattern) for pattern in self.patterns)

    def unmatched(self, names: Sequence[str]) -> list[str]:
        """List the patterns that match none of the names."""
        return [
            pattern
            for pattern in self.patterns
            if not any(fnmatch.fnmatchcase(name, pattern) for name in names)
        ]
