"""The kinds of jobs by name, for other processes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from uoro.lab.jobs import JobSettings, Report
from uoro.lab.reproduce.learning import learn, time_estimators
from uoro.lab.reproduce.noise import noise_by_estimator, noise_by_units, noise_in_time

KINDS: dict[str, Callable[[JobSettings, Report], dict[str, Any]]] = {
    "learning": learn,
    "time by estimator": time_estimators,
    "noise in time": noise_in_time,
    "noise by units": noise_by_units,
    "noise by estimator": noise_by_estimator,
}
