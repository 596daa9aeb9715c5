"""Model, initial numbers, stream, estimator and optimizer of a run, from its settings."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from msgspec import structs

from uoro.backend import Backend
from uoro.derivatives.unroll import unroll
from uoro.dynamics import Dynamics
from uoro.errors import SettingError, UnknownNameError, spelled
from uoro.estimator import Estimator
from uoro.estimators.chosen import Chosen, choose, is_auto
from uoro.estimators.spelling import Choice, parse_estimator
from uoro.optimizer import Optimizer
from uoro.registry import load_backend
from uoro.tasks import TASKS, Forecast, Task, make_task
from uoro.training.factory import load_factory
from uoro.training.optimizer import make_optimizer, optimizer_of_task
from uoro.training.peeking import peek
from uoro.training.settings import Settings
from uoro.training.tap import Tap

EAGER_CHUNK = 16
"""Number of steps between two looks at a run where Python runs each step."""


@dataclass(frozen=True)
class Problem:
    """Everything that a `Learner` needs, and how to read its loss.

    A user's factory may return a problem in place of the tuple.

    Attributes:
        dynamics: Model of one step of the stream.
        params: Initial parameters.
        state: Initial hidden state.
        stream: Items, from the first one. A resumed run seeks the position of a
            `uoro.learning.stream.SeekableStream`; of another stream it drops the items used before.
        optimizer: Optimizer. Default: that of the settings.
        estimator: Estimator. Default: that of the settings.
        title: One line for a figure.
        loss_name: Name of the loss, with its unit.
        loss_scale: Factor from the model's loss to that unit.
        entropy_rate: Smallest mean loss that any predictor can reach, in that unit, if known.
        task: Built-in task, if the problem is one.
        chosen: Which estimator was chosen for ``"auto"``, and why.
    """

    dynamics: Dynamics[Any, Any, Any]
    params: Any
    state: Any
    stream: Iterable[Any]
    optimizer: Optimizer | None = None
    estimator: Estimator | None = None
    title: str = ""
    loss_name: str = "loss"
    loss_scale: float = 1.0
    entropy_rate: float | None = None
    task: Task | None = None
    chosen: Chosen | None = None

    @property
    def backend(self) -> Backend:
        """Backend of the dynamics."""
        return self.dynamics.backend

    @property
    def forecast(self) -> Forecast | None:
        """What a built-in task predicts ahead of time, if it does."""
        return None if self.task is None else self.task.forecast


def make_problem(settings: Settings) -> tuple[Problem, Settings]:
    """Build the problem that the settings describe.

    Returns:
        Problem, unrolled over the estimator's span, with estimator and optimizer; and the complete
        settings, with the task's choices filled in.

    Raises:
        SettingError: If settings contradict each other.
        UnknownNameError: If there is no task, estimator, optimizer or backend of a name.
        StreamError: If a file cannot be read.
    """
    if ":" in settings.task:
        problem, settings = _of_factory(settings)
    else:
        problem, settings = _of_task(settings)
    choice = parse_estimator(settings.estimator)
    if problem.estimator is None and is_auto(choice.estimator):
        problem, choice = _choose(problem, settings)
        settings = structs.replace(settings, estimator=choice.name)
    if choice.span is None:
        raise SettingError(
            f"train(estimator={settings.estimator!r}): expected updates during the run, got one "
            "update for a whole run. Try 'tbptt:T', or an online estimator."
        )
    settings = structs.replace(settings, optimizer=optimizer_of_task(settings))
    params = problem.params
    in_place = str(settings.optimizer.get("name")).startswith("torch.")
    if in_place and problem.optimizer is None and problem.backend.name == "torch":
        params = _leaves_of_their_own(problem.backend, params)
    optimizer = problem.optimizer or make_optimizer(
        settings.optimizer, problem.backend, params, task=settings.task
    )
    dynamics = problem.dynamics
    estimator = problem.estimator or choice.estimator
    if problem.forecast is not None:
        if settings.on_nonfinite == "skip":
            raise SettingError(
                f"train {settings.task}: on_nonfinite='skip': expected no row to be left out, as "
                "predictions wait for their rows by number. Try on_nonfinite='reset'."
            )
        rows = choice.span * max(settings.chunk, EAGER_CHUNK)
        estimator = problem.forecast.judged(estimator, rows)
    return (
        replace(
            problem,
            params=params,
            dynamics=unroll(dynamics, choice.span) if choice.span > 1 else dynamics,
            estimator=estimator,
            optimizer=optimizer,
        ),
        settings,
    )


def _choose(problem: Problem, settings: Settings) -> tuple[Problem, Choice]:
    """Choose the estimator that fits the model, by an item of the stream; lose no item."""
    if problem.task is not None:
        item = problem.task.example()
    else:
        item, stream = peek(problem.backend, problem.stream)
        problem = replace(problem, stream=stream)
    backend, dtype = problem.backend, settings.dtype
    as_made = dtype == "as made" or (problem.task is not None and problem.forecast is None)
    with nullcontext() if dtype == "as made" else backend.precision(str(dtype)):
        item = Tap(backend, [item], dtype=None if as_made else dtype).first()
        chosen = choose(problem.dynamics, problem.params, problem.state, item)
    return replace(problem, chosen=chosen), parse_estimator(chosen.spelling)


def _of_task(settings: Settings) -> tuple[Problem, Settings]:
    if settings.task in ("table", "text") and settings.options.get("paths"):
        # The run may be resumed in another working folder.
        paths = settings.options["paths"]
        paths = [paths] if isinstance(paths, str) else paths
        if isinstance(paths, list):
            absolute = [path if path == "-" else str(Path(path).absolute()) for path in paths]
            settings = _with_options(settings, paths=absolute)
    task = _task(settings)
    if settings.task == "text":
        # A growing file may receive a character that the model has no output for.
        settings = _with_options(settings, alphabet=task.settings["alphabet"])
    if settings.task == "table":
        # Later rows, and those of a resumed run, are read as the first ones were.
        found = {name: task.settings[name] for name in ("target", "cycles", "columns")}
        settings = _with_options(settings, **found)
    dtype: Literal["float32", "float64"]
    dtype = "float64" if settings.dtype == "float64" else "float32"
    settings = structs.replace(settings, dtype=dtype)
    backend = load_backend(settings.backend, device=settings.device or None)
    host_params, host_state = task.model.init(np.random.default_rng(settings.seed))
    with backend.precision(dtype):
        params, state = (backend.from_host(tree, dtype=dtype) for tree in (host_params, host_state))
    problem = Problem(
        dynamics=task.dynamics(backend),
        params=params,
        state=state,
        stream=task.stream(settings.seed),
        title=task.title,
        loss_name=task.loss_name,
        loss_scale=task.loss_scale,
        entropy_rate=task.entropy_rate,
        task=task,
    )
    return problem, settings


def _task(settings: Settings) -> Task:
    call = f"train {settings.task}"
    if settings.task not in TASKS:
        raise UnknownNameError(call, "task", settings.task, [*TASKS, "package.module:factory"])
    known = TASKS[settings.task].options
    options = {name: value for name, value in settings.options.items() if value is not None}
    for name in options:
        # Learning rate and decay are arguments of the task, but a run has an optimizer of its own.
        if name not in known:
            raise UnknownNameError(call, "option", name, known)
    return make_task(call, settings.task, options, settings.network.network())


def _with_options(settings: Settings, **options: Any) -> Settings:
    return structs.replace(settings, options=settings.options | options)


def _of_factory(settings: Settings) -> tuple[Problem, Settings]:
    place, _, name = settings.task.rpartition(":")
    if place.endswith(".py"):
        # The run may be resumed in another working folder.
        settings = structs.replace(settings, task=f"{Path(place).absolute()}:{name}")
    call = f"train {settings.task}"
    factory = load_factory("train", settings.task)
    try:
        made = factory(**settings.options)
    except TypeError as error:
        if error.__traceback__ is not None and error.__traceback__.tb_next is not None:
            raise  # An error of the factory's own code.
        raise SettingError(f"{call}: options {spelled(settings.options)}: {error}.") from error
    if isinstance(made, tuple) and len(made) in (4, 5) and not hasattr(made, "_fields"):
        made = Problem(*made)
    if not isinstance(made, Problem) or not hasattr(made.dynamics, "backend"):
        raise SettingError(
            f"{call}: expected dynamics, params, state, stream and optionally an optimizer, or a "
            f"uoro.training.Problem, got a {type(made).__name__}. Return one of them."
        )
    if not isinstance(made.stream, Iterable):
        raise SettingError(
            f"{call}: expected an iterable stream, got a {type(made.stream).__name__}."
        )
    backend = made.backend
    settings = structs.replace(settings, backend=backend.name, dtype=settings.dtype or "as made")
    dtype = None if settings.dtype == "as made" else settings.dtype
    with backend.precision(dtype) if dtype else nullcontext():
        params = backend.from_host(made.params, dtype=dtype)
        state = backend.from_host(made.state, dtype=dtype)
    title = made.title or settings.task
    return replace(made, params=params, state=state, title=title), settings


def _leaves_of_their_own(backend: Backend, params: Any) -> Any:
    """Copy tensors, which PyTorch's optimizers change in place."""
    return backend.map(lambda leaf: leaf.detach().clone().requires_grad_(), params)
