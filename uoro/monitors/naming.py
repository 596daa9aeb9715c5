"""Monitors by their spellings: ``radius``, ``shadow:window=64,every=10``."""

from __future__ import annotations

from uoro.arguments import mismatch
from uoro.errors import SettingError, UnknownNameError
from uoro.monitors.beside import ReplicaMonitor, ShadowMonitor
from uoro.monitors.looking import AddedMonitor, NoiseMonitor, PairMonitor, RadiusMonitor
from uoro.monitors.monitor import Monitor

OPTIONS = {
    "pair": (),
    "added": (),
    "radius": ("iterations",),
    "noise": ("replicas", "every"),
    "shadow": ("window", "every"),
}
"""Options of each monitor, all positive integers."""


def make_monitor(spelling: str) -> Monitor:
    """Build a monitor from its spelling.

    - ``pair``: norms of the pairs.
    - ``added``: variance added by the last reduction of ``JointUORO(k)`` or ``KroneckerSum(r)``.
    - ``radius``, ``radius:iterations=256``: spectral radius of the step.
    - ``noise``: gradient noise of ``UORO(rank=k)``, from its own pairs.
    - ``noise:replicas=4``: gradient noise of any `UORO`, from replicas beside it.
    - ``shadow``: comparison with exact RTRL.
    - ``shadow:window=64``: comparison with backpropagation through the last 64 steps.

    ``shadow:every=10`` and ``noise:replicas=4,every=10`` take a sample at every tenth step.

    Args:
        spelling: A name, then a colon and options separated by commas.

    Raises:
        UnknownNameError: If the name is unknown; the message suggests the nearest.
        SettingError: If an option is unknown, given twice, or out of range.

    Example:
        >>> from uoro.monitors import make_monitor
        >>> make_monitor("radius").cost
        'nothing per step; 64 JVPs per measurement'
    """
    call = f"make_monitor({spelling!r})"
    name, _, rest = spelling.partition(":")
    if name not in OPTIONS:
        raise UnknownNameError(call, "monitor", name, OPTIONS)
    given = _options(call, name, [option for option in rest.split(",") if option])
    if name == "pair":
        return PairMonitor()
    if name == "added":
        return AddedMonitor()
    if name == "radius":
        return RadiusMonitor(iterations=given.get("iterations", 64))
    if name == "shadow":
        return ShadowMonitor(window=given.get("window"), every=given.get("every", 1))
    if "replicas" in given:
        return ReplicaMonitor(given["replicas"], every=given.get("every", 1))
    if given:
        hint = "Try 'noise:replicas=4,every=10'."
        raise SettingError(mismatch(call, "every", "'replicas' beside it", "none", hint))
    return NoiseMonitor()


def _options(call: str, name: str, written: list[str]) -> dict[str, int]:
    """Return the options, each spelled ``name=count``."""
    given = dict[str, int]()
    for option in written:
        key, equals, value = option.partition("=")
        if not equals or key not in OPTIONS[name]:
            known = " or ".join(f"{known}=COUNT" for known in OPTIONS[name]) or "no option"
            raise SettingError(mismatch(call, "", known, repr(option)))
        if key in given:
            raise SettingError(mismatch(call, key, "one value", "two"))
        if not value.isdecimal() or int(value) < 1:
            raise SettingError(f"{call}: {key}: expected an integer >= 1, got '{value}'.")
        given[key] = int(value)
    return given
