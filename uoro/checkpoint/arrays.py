"""Arrays in the form that a safetensors file holds, and back."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from uoro.errors import StructureError

# The dtypes that safetensors writes as they are.
PLAIN = frozenset(
    [
        "bool",
        "int8",
        "int16",
        "int32",
        "int64",
        "uint8",
        "uint16",
        "uint32",
        "uint64",
        "float16",
        "float32",
        "float64",
    ]
)
# Complex numbers are pairs of reals, along one more axis at the end.
PAIRS = {"complex64": "float32", "complex128": "float64"}

Array = np.ndarray[Any, Any]


class Stored(NamedTuple):
    """Arrays in the form that is written.

    Attributes:
        arrays: Contiguous, little-endian arrays of plain dtypes, by name.
        dtypes: Original dtype of each array that is written in another, by name.
    """

    arrays: dict[str, Array]
    dtypes: dict[str, str]


def store(call: str, arrays: dict[str, Any]) -> Stored:
    """Return arrays in the form that is written.

    Args:
        call: The call, as the user wrote it.
        arrays: Host arrays by name.

    Raises:
        StructureError: If a name or a dtype cannot be written.
    """
    stored: dict[str, Array] = {}
    dtypes: dict[str, str] = {}
    for name in sorted(arrays, key=str):
        _require_name(call, name)
        # Not ascontiguousarray, which adds an axis to an array without axes.
        array = np.asarray(arrays[name], order="C")
        dtype = array.dtype.newbyteorder("<") if array.dtype.isbuiltin != 2 else array.dtype
        array = array.astype(dtype, copy=False)
        if dtype.name in PAIRS:
            dtypes[name] = dtype.name
            parts = array.reshape(-1).view(PAIRS[dtype.name])
            array = parts.reshape((*array.shape, 2))
        elif dtype.isbuiltin == 2 and dtype.itemsize <= 2 and dtype.kind in "Vf":
            # bfloat16 and the like: float32 holds every number of two bytes exactly.
            dtypes[name] = dtype.name
            with np.errstate(invalid="ignore"):  # NaN, of which there are several kinds
                array = array.astype(np.float32)
        elif dtype.name not in PLAIN:
            raise StructureError(
                f"{call}: array {name!r}: expected booleans, numbers of at most 64 bits, or "
                f"complex numbers of at most 128, got dtype {array.dtype}. Convert the array."
            )
        stored[name] = array
    return Stored(stored, dtypes)


def restore(arrays: dict[str, Array], dtypes: dict[str, str]) -> tuple[dict[str, Array], Any]:
    """Return arrays in their own form; undoes `store`.

    Args:
        arrays: Arrays of the file, by name.
        dtypes: Original dtypes from `store`, by name.

    Returns:
        The arrays sorted by name, complex ones complex again; and the original dtypes of the arrays
        that stay float32, by name.

    Raises:
        ValueError: If arrays and dtypes do not fit together.
    """
    restored, widened = {}, {}
    for name in sorted(arrays):
        array, dtype = arrays[name], dtypes.get(name)
        if dtype in PAIRS:
            if array.dtype.name != PAIRS[dtype] or array.shape[-1:] != (2,):
                raise ValueError(f"{name!r} is {array.dtype} of shape {array.shape}, not pairs")
            array = array.reshape(-1).view(dtype).reshape(array.shape[:-1])
        elif dtype is not None:
            widened[name] = dtype
        restored[name] = array
    if unknown := set(dtypes) - set(arrays):
        raise ValueError(f"there are dtypes of {sorted(unknown)}, but no such arrays")
    return restored, widened


def _require_name(call: str, name: object) -> None:
    """Check that a file can hold the name of an array."""
    good = isinstance(name, str) and name != "__metadata__"
    try:
        str(name).encode()
    except UnicodeEncodeError:
        good = False
    if not good:
        raise StructureError(
            f"{call}: expected text as the name of an array, got {name!r}. Try a name such as "
            "'params/0/gates'."
        )
