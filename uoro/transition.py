"""The old place of `uoro.derivatives.transition`, for one release."""

from typing import Any

from uoro.deprecation import moved_names


def __getattr__(name: str) -> Any:
    return moved_names(__name__, {"checked": "uoro.derivatives.transition:checked"})(name)
