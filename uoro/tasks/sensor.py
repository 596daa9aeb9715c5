"""The task of a sensor: predict the next reading of a machine that runs in one of two regimes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from uoro.arguments import mismatch, require_count, require_number, require_seed
from uoro.errors import SettingError, spelled
from uoro.learning.optimizers import Adam
from uoro.models import SeriesModel
from uoro.tasks.numbers import Columns, NumberStream
from uoro.tasks.symbols import Network
from uoro.tasks.task import Task

BLOCK = 4096
"""Number of readings of a block; the machine starts anew at each."""
SMOOTH = 0.9
"""What the drive keeps of itself from one reading to the next."""
GAIN = 0.8
"""Size of the reading that a drive of one causes at the next reading."""
LONGEST = 100_000


@dataclass(frozen=True)
class Sensor:
    """Readings of a machine whose response to a known drive has a sign that flips now and then.

    The drive ``d`` is a smooth random walk of variance 1. The reading after it is ``± 0.8 d`` plus
    noise. The sign is the regime: it lasts from half of ``regime`` to one and a half times as many
    readings and is never shown, so that a predictor has to gather it from readings. One that knew
    it would have the variance of the noise as its mean squared error.

    Args:
        regime: Mean number of readings of a regime, at least 2 and at most 100,000; default 300.
        noise: Standard deviation of the noise, at least 0; default 0.3.

    Raises:
        SettingError: If a number is out of range.
    """

    regime: int = 300
    noise: float = 0.3

    def __post_init__(self) -> None:
        call = f"Sensor(regime={spelled(self.regime)}, noise={spelled(self.noise)})"
        require_count(call, "regime", self.regime, least=2)
        if self.regime > LONGEST:
            raise SettingError(mismatch(call, "regime", f"at most {LONGEST:,}", str(self.regime)))
        wanted = "a number from 0 to 10"
        require_number(call, "noise", self.noise, wanted, lambda x: 0 <= x <= 10)

    def stream(self, seed: int) -> NumberStream:
        """Return the endless stream of items, from its beginning.

        Raises:
            SettingError: If the seed is no integer in [0, 2**63).
        """
        return NumberStream(require_seed("Sensor.stream(seed)", seed), self._block)

    def _block(self, generator: np.random.Generator) -> Columns:
        shocks = generator.normal(size=BLOCK + 1)
        drive = np.empty(BLOCK + 1)
        drive[0] = shocks[0]
        for t in range(BLOCK):
            drive[t + 1] = SMOOTH * drive[t] + (1 - SMOOTH**2) ** 0.5 * shocks[t + 1]
        least = max(1, self.regime // 2)
        lengths = generator.integers(least, self.regime + least + 1, BLOCK // least + 2)
        signs = np.where(np.arange(len(lengths)) % 2 == generator.integers(2), 1.0, -1.0)
        sign = np.repeat(signs, lengths)[: BLOCK + 1]
        caused = np.concatenate([[0.0], GAIN * sign[1:] * drive[:-1]])
        reading = caused + self.noise * generator.normal(size=BLOCK + 1)
        inputs = np.stack([reading[:-1], drive[:-1]], 1)
        return {
            "inputs": inputs.astype(np.float32),
            "target": reading[1:, None].astype(np.float32),
            "weight": np.ones((BLOCK, 1), np.float32),
        }


@dataclass(frozen=True)
class SensorModel:
    """A model of a series, whose step returns the loss alone."""

    model: SeriesModel

    def init(self, generator: np.random.Generator) -> tuple[Any, Any]:
        """Return random params and the initial state."""
        return self.model.init(generator)

    def transition(self, xp: Any, params: Any, state: Any, inputs: Any) -> tuple[Any, Any]:
        """Compute one step: ``(next_state, loss)``."""
        return self.model.transition(xp, params, state, inputs)[:2]


def sensor(
    regime: int = 300,
    noise: float = 0.3,
    *,
    network: Network | None = None,
    learning_rate: float = 1e-3,
) -> Task:
    """Return the task of predicting the next reading, with Adam at a constant learning rate.

    Args:
        regime: Mean number of readings of a regime.
        noise: Standard deviation of the noise.
        network: The network; default one GRU layer of 32 units.
        learning_rate: Learning rate.

    Raises:
        SettingError: If a number is out of range.
    """
    source = Sensor(regime, noise)
    network = Network.given("sensor", network, units=32)
    return Task(
        name="sensor",
        title=f"Sensor, regimes of {regime} readings, {network.title}",
        model=SensorModel(SeriesModel(network.cells(), 2)),
        stream=source.stream,
        optimizer=Adam(learning_rate),
        loss_name="squared error",
        loss_scale=1.0,
        solved_below=None,
        entropy_rate=noise**2,
        settings={
            "regime": regime,
            "noise": noise,
            "learning_rate": learning_rate,
            **network.settings,
        },
    )
