"""Arrays as a safetensors file can say them, and back."""

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
        arrays: Contiguous, little-endian, of plain dtypes.
        dtypes: The dtype of those that are written in another one, by name.
    """

    arrays: dict[str, Array]
    dtypes: dict[str, str]


def store(call: str, arrays: dict[str, Any]) -> Stored:
    """Bring arrays into the form that is written.

    Args:
        call: What was called, for the message.
        arrays: Host arrays by name.

    Raises:
        StructureError: If a name or a dtype cannot be written.
    """
    stored: dict[str, Array] = {}
    dtypes: dict[str, str] = {}
    for name in sorted(arrays, key=str):
        _require_name(call, name)
        # Not ascontiguousarray, which gives an array without axes one.
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
                f"{call}: the array {name!r} has dtype {array.dtype}, which a checkpoint cannot "
                "hold. Wanted are numbers of at most 64 bits, complex ones of at most 128, or "
                "booleans."
            )
        stored[name] = array
    return Stored(stored, dtypes)


def restore(arrays: dict[str, Array], dtypes: dict[str, str]) -> tuple[dict[str, Array], Any]:
    """Bring arrays back from the form that is written; undoes `store`.

    Args:
        arrays: As they are in the file.
        dtypes: As `store` gave them.

    Returns:
        The arrays, complex ones complex again, sorted by name; and the names and dtypes of those
        that stay float32.

    Raises:
        ValueError: If the two do not belong together.
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
    """Refuse names that a file cannot hold."""
    good = isinstance(name, str) and name != "__metadata__"
    try:
        str(name).encode()
    except UnicodeEncodeError:
        good = False
    if not good:
        raise StructureError(
            f"{call}: {name!r} cannot be the name of an array. Wanted is text, such as "
            "'params/0/gates'."
        )
