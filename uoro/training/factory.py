"""Load a user's function by ``package.module:name`` or ``file.py:name``."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from uoro.errors import SettingError, UnknownNameError


def load_factory(command: str, spelling: str) -> Callable[..., Any]:
    """Import a function; the working folder is searched for modules, too.

    Args:
        command: Command to name in errors.
        spelling: ``package.module:name``, or ``path/to/file.py:name``.

    Raises:
        SettingError: If the spelling is malformed, or the module cannot be imported.
        UnknownNameError: If the module has no such function.
    """
    place, _, name = spelling.rpartition(":")
    if not place or not name:
        raise SettingError(
            f"{command}: expected 'package.module:factory' or 'file.py:factory', got {spelling}."
        )
    module = _import(f"{command} {spelling}", place)
    function = getattr(module, name, None)
    if not callable(function):
        known = [key for key, value in vars(module).items() if callable(value) and key[0] != "_"]
        raise UnknownNameError(f"{command} {spelling}", "function", name, known)
    found: Callable[..., Any] = function
    return found


def _import(call: str, place: str) -> ModuleType:
    try:
        if place.endswith(".py"):
            return _import_file(Path(place))
        if "" not in sys.path and str(Path.cwd()) not in sys.path:
            sys.path.insert(0, str(Path.cwd()))
        return importlib.import_module(place)
    except FileNotFoundError as error:
        raise SettingError(f"{call}: there is no file '{place}'.") from error
    except ModuleNotFoundError as error:
        raise SettingError(
            f"{call}: the module '{error.name}' cannot be found, neither installed nor in the "
            f"working folder {Path.cwd()}."
        ) from error
    except Exception as error:
        raise SettingError(
            f"{call}: importing '{place}' raised {type(error).__name__}: {error}."
        ) from error


def _import_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise FileNotFoundError(path)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise FileNotFoundError(path)
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.parent.resolve()))
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module
