"""Deprecated module: `uoro.derivatives.transition` replaces it."""

from uoro.deprecation import moved_names

__getattr__ = moved_names(__name__, {"checked": "uoro.derivatives.transition:checked"})
