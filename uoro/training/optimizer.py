"""Optimizers by name: the library's, those of optax and PyTorch, and the user's."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from typing import Any, cast

from uoro.backend import Backend
from uoro.errors import MissingFrameworkError, SettingError, UnknownNameError, spelled
from uoro.learning.optimizers import SGD, Adam
from uoro.optimizer import Optimizer
from uoro.schedules import Schedule, constant, inverse, inverse_sqrt
from uoro.tasks import TASKS
from uoro.tasks.catalogue import LEARNING_RATE
from uoro.training.factory import load_factory
from uoro.training.settings import Settings

SCHEDULES: dict[str, Any] = {
    "constant": constant,
    "inverse": inverse,
    "inverse_sqrt": inverse_sqrt,
}
_OWN: dict[str, Any] = {"adam": Adam, "sgd": SGD}


def optimizer_of_task(settings: Settings) -> dict[str, Any]:
    """Return the optimizer's settings, completed by the task's.

    Defaults are the paper's for a built-in task, and Adam at learning rate 0.001 elsewhere.

    Raises:
        SettingError: If a setting is neither number nor text.
    """
    given = dict(settings.optimizer)
    for name, value in given.items():
        if not isinstance(value, (str, int, float)) or (name == "name" and value is True):
            raise SettingError(f"train: optimizer.{name}: expected a number, got {spelled(value)}.")
    task = TASKS.get(settings.task)
    defaults: dict[str, Any] = {"name": "adam", "learning_rate": 1e-3, "schedule": "constant"}
    if task is not None:
        defaults |= {"name": task.optimizer, "schedule": task.schedule}
        defaults |= {name: task.defaults[name] for name in LEARNING_RATE if name in task.defaults}
    if given.get("name", defaults["name"]) not in _OWN:
        return given
    if given.get("schedule", defaults["schedule"]) == "constant":
        defaults.pop("decay", None)
    return defaults | given


def make_optimizer(
    table: dict[str, Any], backend: Backend, params: Any, *, task: str = ""
) -> Optimizer:
    """Build the optimizer that a table describes.

    Args:
        table: ``name`` and arguments. Those of ``adam`` and ``sgd`` are ``learning_rate``,
            ``schedule`` and ``decay``, and the fields of `uoro.Adam`; those of ``optax.NAME`` and
            ``torch.NAME`` are the arguments of `optax.NAME` and `torch.optim.NAME`.
        backend: Backend of the params.
        params: Parameters to update.
        task: Name of the task, for errors.

    Raises:
        UnknownNameError: If there is no optimizer, schedule or argument of a name.
        SettingError: If the optimizer belongs to another backend, or refuses its arguments.
        MissingFrameworkError: If optax is not installed.
    """
    call = f"train {task}: optimizer"
    options = dict(table)
    name = str(options.pop("name", "adam"))
    if name in _OWN:
        return _own(call, name, options)
    framework, _, rest = name.partition(".")
    if ":" in name:
        made = _of_function(load_factory("train --optimizer", name), options)
    elif framework == "optax" and rest:
        made = _of_optax(call, backend, rest, options)
    elif framework == "torch" and rest:
        made = _of_torch(call, backend, params, rest, options)
    else:
        known = [*_OWN, "optax.NAME", "torch.NAME", "package.module:function"]
        raise UnknownNameError(call, "optimizer", name, known)
    if not (hasattr(made, "init") and hasattr(made, "update")):
        raise SettingError(
            f"{call} {name}: expected a uoro.Optimizer, with init and update, got a "
            f"{type(made).__name__}."
        )
    return cast(Optimizer, made)


def _own(call: str, name: str, options: dict[str, Any]) -> Optimizer:
    schedule = options.pop("schedule", "constant")
    learning_rate, decay = options.pop("learning_rate", 1e-3), options.pop("decay", None)
    if schedule not in SCHEDULES:
        raise UnknownNameError(call, "schedule", str(schedule), SCHEDULES)
    if decay is not None and schedule == "constant":
        raise SettingError(
            f"{call}: expected no decay of a constant learning rate, got {spelled(decay)}. Try "
            "schedule = 'inverse'."
        )
    made: Schedule = SCHEDULES[schedule](learning_rate, *([] if decay is None else [decay]))
    known = [one for one in inspect.signature(_OWN[name]).parameters if one != "learning_rate"]
    for option in options:
        if option not in known:
            raise UnknownNameError(
                f"{call} {name}", "setting", option, [*known, "learning_rate", "decay", "schedule"]
            )
    return cast(Optimizer, _OWN[name](made, **options))


def _of_function(function: Callable[..., Any], options: dict[str, Any]) -> Any:
    """Call a user's function; its learning rate may be called ``rate``, as in version 0.1."""
    names = inspect.signature(function).parameters
    if "learning_rate" in options and "learning_rate" not in names and "rate" in names:
        options["rate"] = options.pop("learning_rate")
    return function(**options)


def _of_optax(call: str, backend: Backend, name: str, options: dict[str, Any]) -> Any:
    if backend.name != "jax":
        raise SettingError(
            f"{call} optax.{name}: expected the backend jax, got {backend.name}. Try --backend jax."
        )
    try:
        optax = importlib.import_module("optax")
    except ModuleNotFoundError as error:
        raise MissingFrameworkError(
            f"{call} optax.{name}: the module 'optax' is not installed. Try: pip install optax."
        ) from error
    from_optax = importlib.import_module("uoro_jax").OptaxOptimizer
    return from_optax(_call(call, optax, "optax", name, options, "learning_rate"))


def _of_torch(call: str, backend: Backend, params: Any, name: str, options: dict[str, Any]) -> Any:
    if backend.name != "torch":
        raise SettingError(
            f"{call} torch.{name}: expected the backend torch, got {backend.name}. Try --backend "
            "torch."
        )
    optim = importlib.import_module("torch.optim")
    leaves = [leaf for _, leaf in backend.named_leaves(params)]
    wrap = importlib.import_module("uoro_torch").TorchOptimizer
    return wrap(_call(call, optim, "torch", name, options, "lr", leaves))


def _call(
    call: str,
    module: Any,
    short: str,
    name: str,
    options: dict[str, Any],
    learning_rate: str,
    *first: Any,
) -> Any:
    """Call a function of a module; the learning rate goes by the module's name for it."""
    make = getattr(module, name, None)
    if not callable(make) or name.startswith("_"):
        known = [key for key, value in vars(module).items() if callable(value) and key[0] != "_"]
        raise UnknownNameError(call, f"optimizer of {short}", name, known)
    if "learning_rate" in options:
        options[learning_rate] = options.pop("learning_rate")
    try:
        return make(*first, **options)
    except (TypeError, ValueError) as error:
        raise SettingError(f"{call} {short}.{name}: {error}.") from error
