"""A backend for uoro: NumPy alone, with every derivative written by hand."""

from uoro_handmade.backend import HandmadeBackend as HandmadeBackend
