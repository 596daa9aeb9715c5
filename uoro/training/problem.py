"""What a run is made of: model, numbers, stream, estimator and optimizer, from its settings."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from uoro.backend import Backend
from uoro.derivatives.unroll import unroll
from uoro.dynamics import Dynamics
from uoro.errors import SettingError, UnknownNameError, spelled
from uoro.estimator import Estimator
from uoro.estimators.spelling import parse_estimator
from uoro.learning.host_noise import map_host
from uoro.optimizer import Optimizer
from uoro.registry import load_backend
from uoro.tasks import TASKS, Task
from uoro.training.factory import load_factory
from uoro.training.optimizer import make_optimizer, optimizer_of_task
from uoro.training.settings import Settings

_OURS = ("network", "rate", "decay")


@dataclass(frozen=True)
class Problem:
    """Everything that a `Learner` needs, and how to read its loss.

    A factory of the user's may return one of these, in place of the tuple.

    Attributes:
        dynamics: The model of one step of the stream.
        params: The initial parameters.
        state: The initial state.
        stream: The items, from the first one; the position of a
            `uoro.learning.stream.SeekableStream` is found again when the run goes on, of another
            one as many items are drawn and dropped.
        optimizer: The optimizer; that of the settings if not given.
        estimator: The estimator; that of the settings if not given.
        title: One line for a figure.
        loss_name: What the loss is, with its unit.
        loss_scale: What to multiply the model's loss by to get it in that unit.
        entropy_rate: The least mean loss that any predictor can reach, in that unit, if known.
        task: The built-in task, if it is one.
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

    @property
    def backend(self) -> Backend:
        """The backend of the dynamics."""
        return self.dynamics.backend


def make_problem(settings: Settings) -> tuple[Problem, Settings]:
    """Make what the settings say.

    Returns:
        The problem, unrolled as the estimator wants it, with estimator and optimizer; and the
        settings with everything filled in that the task decided.

    Raises:
        SettingError: If they do not go together.
        UnknownNameError: If there is no task, estimator, optimizer or backend of a name.
        StreamError: If a file cannot be read.
    """
    if ":" in settings.task:
        problem, settings = _of_factory(settings)
    else:
        problem, settings = _of_task(settings)
    choice = parse_estimator(settings.estimator)
    if choice.span is None:
        raise SettingError(
            f"train(estimator={settings.estimator!r}): it makes one update for a whole run. Take "
            "'tbptt:T', or an online one."
        )
    settings = replace(settings, optimizer=optimizer_of_task(settings))
    params = problem.params
    in_place = str(settings.optimizer.get("name")).startswith("torch.")
    if in_place and problem.optimizer is None and problem.backend.name == "torch":
        params = _leaves_of_their_own(problem.backend, params)
    optimizer = problem.optimizer or make_optimizer(
        settings.optimizer, problem.backend, params, task=settings.task
    )
    dynamics = problem.dynamics
    return (
        replace(
            problem,
            params=params,
            dynamics=unroll(dynamics, choice.span) if choice.span > 1 else dynamics,
            estimator=problem.estimator or choice.estimator,
            optimizer=optimizer,
        ),
        settings,
    )


def make_task(settings: Settings) -> Task:
    """Make the built-in task that the settings name.

    Raises:
        UnknownNameError: If there is no such task, or it has no such option.
    """
    call = f"train {settings.task}"
    if settings.task not in TASKS:
        raise UnknownNameError(call, "task", settings.task, [*TASKS, "package.module:factory"])
    make = TASKS[settings.task]
    known = [name for name in inspect.signature(make).parameters if name not in _OURS]
    options = {name: value for name, value in settings.options.items() if value is not None}
    for name in options:
        if name not in known:
            raise UnknownNameError(call, "option", name, known)
    if settings.task != "influence-balancing":
        options["network"] = settings.network
    try:
        return make(**options)
    except TypeError as error:
        raise SettingError(f"{call}: options {spelled(settings.options)}: {error}.") from error


def _of_task(settings: Settings) -> tuple[Problem, Settings]:
    if settings.task == "text" and settings.options.get("paths"):
        # Found again wherever the run is gone on with.
        paths = settings.options["paths"]
        if isinstance(paths, list):
            absolute = [path if path == "-" else str(Path(path).absolute()) for path in paths]
            settings = replace(settings, options=settings.options | {"paths": absolute})
    task = make_task(settings)
    if settings.task == "text":
        # A file that grows may come to hold a character that the model has no place for.
        settings = replace(
            settings, options=settings.options | {"alphabet": task.settings["alphabet"]}
        )
    dtype: Literal["float32", "float64"]
    dtype = "float64" if settings.dtype == "float64" else "float32"
    settings = replace(settings, dtype=dtype)
    backend = load_backend(settings.backend, device=settings.device or None)
    host_params, host_state = task.model.init(np.random.default_rng(settings.seed))
    host_state = map_host(lambda leaf: np.asarray(leaf, dtype), host_state)
    with backend.precision(dtype):
        params, state = backend.from_host(host_params, dtype=dtype), backend.from_host(host_state)
    problem = Problem(
        dynamics=backend.dynamics(partial(task.model.transition, backend.xp)),
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


def _of_factory(settings: Settings) -> tuple[Problem, Settings]:
    place, _, name = settings.task.rpartition(":")
    if place.endswith(".py"):
        # Found again wherever the run is gone on with.
        settings = replace(settings, task=f"{Path(place).absolute()}:{name}")
    call = f"train {settings.task}"
    factory = load_factory("train", settings.task)
    try:
        made = factory(**settings.options)
    except TypeError as error:
        if error.__traceback__ is not None and error.__traceback__.tb_next is not None:
            raise  # Its own, from within.
        raise SettingError(f"{call}: options {spelled(settings.options)}: {error}.") from error
    if isinstance(made, tuple) and len(made) in (4, 5) and not hasattr(made, "_fields"):
        made = Problem(*made)
    if not isinstance(made, Problem) or not hasattr(made.dynamics, "backend"):
        raise SettingError(
            f"{call}: the factory returned a {type(made).__name__}; wanted are dynamics, params, "
            "state and stream, and as a fifth an optimizer if you like; or a uoro.training.Problem."
        )
    if not isinstance(made.stream, Iterable):
        raise SettingError(
            f"{call}: the stream is a {type(made.stream).__name__}, wanted is something to iterate "
            "over."
        )
    backend = made.backend
    settings = replace(settings, backend=backend.name, dtype=settings.dtype or "as made")
    dtype = None if settings.dtype == "as made" else settings.dtype
    with backend.precision(dtype) if dtype else nullcontext():
        params = backend.from_host(made.params, dtype=dtype)
        state = backend.from_host(made.state, dtype=dtype)
    title = made.title or settings.task
    return replace(made, params=params, state=state, title=title), settings


def _leaves_of_their_own(backend: Backend, params: Any) -> Any:
    """Copy tensors, as PyTorch's optimizers change them in place."""
    return backend.map(lambda leaf: leaf.detach().clone().requires_grad_(), params)
