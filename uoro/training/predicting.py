"""Predictions of a trained run on another table, learning on or not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from msgspec import structs

from uoro.checkpoint.folder import Checkpoints
from uoro.errors import CheckpointError, SettingError
from uoro.learning.learner import Learner
from uoro.learning.saved import Saved
from uoro.learning.stream import Taking
from uoro.monitors.monitor import prequential
from uoro.tables.columns import SECONDS, TIMES
from uoro.tasks import Task, make_task
from uoro.tasks.growing import PAUSE
from uoro.tasks.running import Made
from uoro.tasks.series import TableStream
from uoro.training.config import settings_of
from uoro.training.problem import EAGER_CHUNK, make_problem
from uoro.training.sample import unflatten
from uoro.training.saving import CHECKPOINTS
from uoro.training.settings import Settings
from uoro.training.tap import Tap

Numbers = np.ndarray[Any, np.dtype[np.float64]]

ROWS = 256


class Predicted(NamedTuple):
    """Predictions for some rows.

    Attributes:
        times: Time of each row in seconds; NaN where it is not known.
        values: Values of the targets; NaN where they are not known.
        predicted: Their predictions, made `horizon` rows before; NaN in the first rows.
    """

    times: Numbers
    values: Numbers
    predicted: Numbers


class Predictor:
    """A trained run, to be used on another table.

    The table is read as the next part of the series: statistics and hidden state go on from where
    the run was. Nothing is written into the run's folder.

    Args:
        folder: Folder of a run of the task ``table``.
        paths: Files, as the task takes them.

    Attributes:
        targets: Names of the targets.
        horizon: Number of rows between a prediction and its row.
        time: Name of the column of times, if there is one.
        dates: Whether it holds dates.

    Raises:
        SettingError: If there is no run in the folder, or one of another task.
        CheckpointError: If the run has no checkpoint.
        StreamError: If the table cannot be read, or has other columns.
    """

    def __init__(self, folder: Path, paths: Sequence[str]) -> None:
        call = f"predict {folder}"
        settings = settings_of(folder, call=call)
        if settings.task != "table":
            raise SettingError(f"{call}: expected a run of a table, got '{settings.task}'.")
        found = Checkpoints(folder / CHECKPOINTS).latest()
        if found is None:
            raise CheckpointError(f"{call}: the run has no checkpoint yet. Try again later.")
        over = {"paths": list(paths), "laps": 1, "follow": False, "resume": "restarts"}
        self._settings: Settings = structs.replace(settings, options=settings.options | over)
        self._arrays = _without_shadows(found.snapshot.arrays)
        self._document = found.snapshot.document
        options = {n: v for n, v in self._settings.options.items() if v is not None}
        self._task: Task = make_task(call, "table", options, settings.network.network())
        assert self._task.forecast is not None
        self.targets, self.horizon = self._task.forecast.targets, self._task.forecast.horizon
        columns = self._task.settings["columns"]
        times = [one for one in columns if one["kind"] in TIMES]
        self.time: str | None = times[0]["name"] if times else None
        self.dates = bool(times) and times[0]["kind"] != SECONDS

    def predict(self) -> Iterator[Predicted]:
        """Predict with the params of the run, without learning.

        Yields:
            Predictions for the rows, some at a time, and at the end for the rows to come.
        """
        use = _Use(self._task, self._arrays)
        ahead = _Ahead(self.horizon, len(self.targets))
        recorder = self._recorder(self._task.stream(0))
        use.read(recorder.newest())
        while recorder.advance(ROWS):
            made = recorder.made.pop()
            yield ahead.judged(made, use.read(made.inputs))
        yield ahead.to_come()

    def learn(self) -> Iterator[Predicted]:
        """Predict and learn on, as in the run: each prediction is made before its row is known.

        Yields:
            Predictions for the rows, some at a time, and at the end for the rows to come.
        """
        problem, settings = make_problem(self._settings)
        backend, span = problem.backend, problem.dynamics.span
        assert problem.estimator is not None
        assert problem.optimizer is not None
        ahead = _Ahead(self.horizon, len(self.targets))
        with backend.precision(str(settings.dtype)):
            learner = Learner(
                problem.dynamics,
                problem.estimator,
                problem.optimizer,
                problem.params,
                problem.state,
                seed=settings.seed,
                on_nonfinite=settings.on_nonfinite,
            )
            recorder = self._recorder(problem.stream)
            item = {name: np.zeros(part.shape[1:]) for name, part in recorder.nothing().items()}
            example = backend.from_host(item, dtype=settings.dtype)
            learner.restore(Saved(self._arrays, self._document["learner"]), inputs=example)
            tap = Tap(backend, recorder, span, dtype=settings.dtype)
            chunk = settings.chunk if backend.compiled else EAGER_CHUNK
            learned: Made | None = None
            rest: list[Made] = []
            while steps := learner.run(tap, chunk, chunk=chunk).steps:
                judged = backend.to_host(prequential(learner.carry).judged)
                made = _joined([*rest, *recorder.made])
                recorder.made.clear()
                count = steps * span
                learned, rest = _cut(made, 0, count), [_cut(made, count, None)]
                yield ahead.learned(learned, np.asarray(judged, np.float64)[-count:, 0])
            rest = [made for made in (*rest, *recorder.made) if len(made.base)]
            if learned is not None:
                arrays = learner.export().arrays
                waiting = np.asarray(arrays["carry/waiting"], np.float64)
                use = _Use(self._task, arrays)
                ahead.wait(waiting, use.read(learned.inputs[-1:]))
                for made in rest:
                    yield ahead.judged(made, use.read(made.inputs))
        yield ahead.to_come()

    def _recorder(self, stream: Any) -> _Recorder:
        """Return the stream of the table, with the statistics of the run."""
        stream.running.restore(self._document["stream"]["own"]["running"])
        stream.running.restart()
        return _Recorder(stream)


class _Recorder(Taking):
    """The stream of a table, of which every row is an item, with a record of what was taken."""

    def __init__(self, stream: TableStream) -> None:
        self._stream = stream
        self.made: list[Made] = []

    def take(self, count: int) -> Any:
        return self.made[-1].items if self.advance(count) else None

    def advance(self, count: int) -> bool:
        """Take rows, and wait for one; return false at the end."""
        while (made := self._stream.advance(count)) is not None:
            if len(made.base):
                self.made.append(made)
                return True
            self._stream.wait(PAUSE)
        return False

    def newest(self) -> Numbers:
        """Return the inputs of the last row of the run, which its model in use has yet to read."""
        return self._stream.running.newest[None]

    def nothing(self) -> dict[str, Any]:
        return self._stream.nothing()


class _Use:
    """The model in use, with NumPy, from arrays of a learner."""

    def __init__(self, task: Task, arrays: dict[str, Any]) -> None:
        used = any(name.startswith("carry/state/") for name in arrays)
        tree = unflatten(arrays, "carry" if used else "state")
        self._state = tree["state"] if used else tree
        self._params = unflatten(arrays, "params")
        self._model: Any = task.model
        self._dtype = self._params["readout"]["map"].dtype

    def read(self, inputs: Numbers) -> Numbers:
        """Return the prediction made at each row, in usual changes."""
        made = []
        for row in inputs.astype(self._dtype):
            self._state, predicted = self._model.predict(np, self._params, self._state, row)
            made.append(np.asarray(predicted, np.float64))
        return np.array(made)


class _Ahead:
    """Predictions of rows that have not come yet."""

    def __init__(self, horizon: int, targets: int) -> None:
        self._horizon, self._targets = horizon, targets
        self._values = np.full((horizon, targets), np.nan)
        self._bases = self._scales = np.full((horizon, targets), np.nan)

    def judged(self, made: Made, changes: Numbers) -> Predicted:
        """Return rows with the predictions made before; keep those made at them."""
        values = np.concatenate([self._values, made.base + made.scale * changes])
        self._values = values[len(changes) :]
        return Predicted(made.times, made.values, values[: len(changes)])

    def learned(self, made: Made, changes: Numbers) -> Predicted:
        """Return rows with the predictions made before, which a learner kept."""
        base, scale = (
            np.concatenate(pair) for pair in ((self._bases, made.base), (self._scales, made.scale))
        )
        count = len(changes)
        self._bases, self._scales = base[count:], scale[count:]
        return Predicted(made.times, made.values, base[:count] + scale[:count] * changes)

    def wait(self, waiting: Numbers, last: Numbers) -> None:
        """Keep the predictions that a learner keeps, and that made at its last row."""
        changes = np.concatenate([waiting[1:], last])
        self._values = self._bases + self._scales * changes

    def to_come(self) -> Predicted:
        """Return the rows to come."""
        nothing = np.full(self._horizon, np.nan)
        unknown = np.full((self._horizon, self._targets), np.nan)
        return Predicted(nothing, unknown, self._values)


def _joined(parts: list[Made]) -> Made:
    items = {n: np.concatenate([one.items[n] for one in parts]) for n in parts[0].items}
    return Made(items, *(np.concatenate(each) for each in list(zip(*parts, strict=True))[1:]))


def _cut(made: Made, first: int, end: int | None) -> Made:
    items = {name: part[first:end] for name, part in made.items.items()}
    return Made(items, *(part[first:end] for part in made[1:]))


def _without_shadows(arrays: dict[str, Any]) -> dict[str, Any]:
    """Return the arrays of a learner, of its carry those within the shadows of monitors."""
    prefix = "carry/"
    while arrays and not any(name.startswith(prefix + "judged") for name in arrays):
        prefix += "estimator/"
        if not any(name.startswith(prefix) for name in arrays):
            return arrays
    kept = {name: array for name, array in arrays.items() if not name.startswith("carry/")}
    own = {name: array for name, array in arrays.items() if name.startswith(prefix)}
    return kept | {f"carry/{name.removeprefix(prefix)}": array for name, array in own.items()}
