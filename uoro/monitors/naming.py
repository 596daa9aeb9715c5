"""Monitors named the way people write them: ``radius``, ``shadow:window=64,every=10``."""

from __future__ import annotations

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
"""What each monitor can be told, each a positive integer."""


def make_monitor(spelling: str) -> Monitor:
    """Make a monitor of its name.

    ``pair``; ``added`` (of ``JointUORO(k)``); ``radius``,
    ``radius:iterations=256``; ``noise`` (of ``UORO(rank=k)``, from its own pairs),
    ``noise:replicas=4`` (of any UORO, from replicas beside it); ``shadow`` (beside exact RTRL),
    ``shadow:window=64`` (beside backpropagation through the last 64 steps);
    ``shadow:every=10`` and ``noise:replicas=4,every=10`` take a sample at each tenth step.

    Raises:
        UnknownNameError: If there is no such monitor; the nearest is named.
        SettingError: If an option is unknown, twice there, or out of range.

    Example:
        >>> from uoro.monitors import make_monitor
        >>> make_monitor("radius").cost
        'nothing as a run goes on; 64 jvps when asked'
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
        raise SettingError(
            f"{call}: 'every' belongs to replicas, as in 'noise:replicas=4,every=10'."
        )
    return NoiseMonitor()


def _options(call: str, name: str, written: list[str]) -> dict[str, int]:
    """Read options, each ``name=count``."""
    given = dict[str, int]()
    for option in written:
        key, equals, value = option.partition("=")
        if not equals or key not in OPTIONS[name]:
            wanted = ", ".join(f"{known}=COUNT" for known in OPTIONS[name]) or "none"
            raise SettingError(f"{call}: there is no option '{option}'. Wanted: {wanted}.")
        if key in given:
            raise SettingError(f"{call}: '{key}' is given twice.")
        if not value.isdecimal() or int(value) < 1:
            raise SettingError(f"{call}: {key}: expected an integer >= 1, got '{value}'.")
        given[key] = int(value)
    return given
