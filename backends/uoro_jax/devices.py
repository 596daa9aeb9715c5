"""Devices by their spelling: ``"cpu"``, ``"gpu"``, ``"gpu:1"``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import jax

from uoro.arguments import mismatch
from uoro.errors import SettingError, spelled


def find_device(spelling: str) -> Any:
    """Return the JAX device of a spelling.

    Raises:
        SettingError: If JAX has no such device.
    """
    platform, _, index = spelling.partition(":") if isinstance(spelling, str) else ("", "", "?")
    try:
        if not (index or "0").isdecimal():
            raise ValueError(index)
        return jax.devices(platform)[int(index or 0)]
    except (RuntimeError, IndexError, ValueError) as error:
        call = f"JaxBackend(device={spelled(spelling)})"
        expected = f"one of {spell_devices(jax.devices())}"
        raise SettingError(mismatch(call, "device", expected, spelled(spelling))) from error


def spell_device(device: Any) -> str:
    """Return the spelling of a device."""
    return f"{device.platform}:{device.id}"


def spell_devices(devices: Iterable[Any]) -> str:
    """Return the spellings of several devices, sorted and joined by commas."""
    return ", ".join(sorted(map(spell_device, devices)))
