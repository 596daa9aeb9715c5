"""Optimizers by name: the library's own, those of optax and PyTorch, and the user's."""

from __future__ import annotations

import importlib
import inspect
from typing import Any, cast

from uoro.backend import Backend
from uoro.errors import MissingFrameworkError, SettingError, UnknownNameError, spelled
from uoro.learning.optimizers import SGD, Adam
from uoro.optimizer import Optimizer
from uoro.schedules import Schedule, constant, inverse, inverse_sqrt
from uoro.tasks import anbn, copying, distant_brackets, influence_balancing, text
from uoro.training.factory import load_factory
from uoro.training.settings import Settings

SCHEDULES = ("constant", "inverse", "inverse_sqrt")
_PAPER: dict[str, tuple[Any, str, str]] = {
    "anbn": (anbn, "adam", "inverse_sqrt"),
    "brackets": (distant_brackets, "adam", "inverse_sqrt"),
    "copy": (copying, "adam", "inverse"),
    "influence-balancing": (influence_balancing, "sgd", "inverse_sqrt"),
    "text": (text, "adam", "inverse_sqrt"),
}
_OWN: dict[str, Any] = {"adam": Adam, "sgd": SGD}


def optimizer_of_task(settings: Settings) -> dict[str, Any]:
    """Fill in what the settings leave to the task: the paper's choices, or Adam at rate 0.001."""
    given = dict(settings.optimizer)
    for name, value in given.items():
        if not isinstance(value, (str, int, float)) or (name == "name" and value is True):
            raise SettingError(f"train: optimizer.{name} = {spelled(value)}: wanted is a number.")
    task = _PAPER.get(settings.task)
    name = "adam"
    defaults: dict[str, Any] = {"learning_rate": 1e-3, "schedule": "constant"}
    if task is not None:
        make, name, schedule = task
        parameters = inspect.signature(make).parameters
        defaults = {"learning_rate": parameters["learning_rate"].default, "schedule": schedule}
        if "decay" in parameters:
            defaults["decay"] = parameters["decay"].default
    if given.get("name", name) not in _OWN:
        return given
    if given.get("schedule", defaults["schedule"]) == "constant":
        defaults.pop("decay", None)
    return {"name": name} | defaults | given


def make_optimizer(
    table: dict[str, Any], backend: Backend, params: Any, *, task: str = ""
) -> Optimizer:
    """Make the optimizer that a table describes.

    Args:
        table: ``name`` and what to call it with. For ``adam`` and ``sgd`` these are
            ``learning_rate``, ``schedule`` and ``decay``, and the fields of `uoro.Adam`; for
            ``optax.NAME`` and ``torch.NAME`` the arguments of `optax.NAME` and `torch.optim.NAME`.
        backend: The backend of the params.
        params: What it is to change.
        task: For the errors.

    Raises:
        UnknownNameError: If there is no optimizer, schedule or argument of a name.
        SettingError: If it does not go with the backend, or refuses its arguments.
        MissingFrameworkError: If optax is not installed.
    """
    call = f"train {task}: optimizer"
    options = dict(table)
    name = str(options.pop("name", "adam"))
    if name in _OWN:
        return _own(call, name, options)
    framework, _, rest = name.partition(".")
    if ":" in name:
        made = load_factory("train --optimizer", name)(**options)
    elif framework == "optax" and rest:
        made = _of_optax(call, backend, rest, options)
    elif framework == "torch" and rest:
        made = _of_torch(call, backend, params, rest, options)
    else:
        known = [*_OWN, "optax.NAME", "torch.NAME", "package.module:function"]
        raise UnknownNameError(call, "optimizer", name, known)
    if not (hasattr(made, "init") and hasattr(made, "update")):
        raise SettingError(
            f"{call} {name}: it is a {type(made).__name__}, wanted is a uoro.Optimizer, with init "
            "and update."
        )
    return cast(Optimizer, made)


def _own(call: str, name: str, options: dict[str, Any]) -> Optimizer:
    schedule = options.pop("schedule", "constant")
    learning_rate, decay = options.pop("learning_rate", 1e-3), options.pop("decay", None)
    schedules: dict[str, Any] = {
        "constant": constant,
        "inverse": inverse,
        "inverse_sqrt": inverse_sqrt,
    }
    if schedule not in schedules:
        raise UnknownNameError(call, "schedule", str(schedule), schedules)
    if decay is not None and schedule == "constant":
        raise SettingError(f"{call}: a constant rate has no decay. Give a schedule.")
    made: Schedule = schedules[schedule](learning_rate, *([] if decay is None else [decay]))
    known = [one for one in inspect.signature(_OWN[name]).parameters if one != "learning_rate"]
    for option in options:
        if option not in known:
            raise UnknownNameError(
                f"{call} {name}", "setting", option, [*known, "learning_rate", "decay", "schedule"]
            )
    return cast(Optimizer, _OWN[name](made, **options))


def _of_optax(call: str, backend: Backend, name: str, options: dict[str, Any]) -> Any:
    if backend.name != "jax":
        raise SettingError(f"{call} optax.{name}: it changes JAX arrays. Take --backend jax.")
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
        raise SettingError(f"{call} torch.{name}: it changes tensors. Take --backend torch.")
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
    """Call what a module has under a name; the rate is called what it is called there."""
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
