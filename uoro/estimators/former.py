"""Former settings of `UORO`, accepted for one release with a warning."""

from __future__ import annotations

from functools import wraps
from typing import Any, TypeVar

from uoro.arguments import mismatch, require_choice
from uoro.deprecation import renamed
from uoro.errors import SettingError, spelled
from uoro.estimators.joint import JointUORO

Class = TypeVar("Class", bound=type)
FORMER_ORDER = ("rank", "distribution", "epsilon", "pair_dtype", "reduction", "scaling")
"""Settings in the order in which they could be given by position; now only the rank can."""


def accept_former_settings(cls: Class) -> Class:
    """Make `UORO` accept ``law=``, ``reduction=``, and all settings by position.

    ``UORO(reduction="optimal", rank=k)`` returns ``JointUORO(k)``.
    """
    init: Any = cls.__init__  # type: ignore[misc]  # of this very class

    @wraps(init, assigned=())
    def create(cls: type, *positions: Any, **settings: Any) -> Any:
        given = {**dict(zip(FORMER_ORDER, positions, strict=False)), **settings}
        if given.get("reduction") != "optimal":
            return object.__new__(cls)
        present = _present(positions, settings)
        if present.get("distribution", "signs") != "signs":
            raise SettingError(
                mismatch(
                    "UORO(reduction='optimal', ...)",
                    "distribution",
                    "'signs', the only one of joint pairs",
                    spelled(present["distribution"]),
                    "Leave distribution out.",
                )
            )
        kept = {key: present[key] for key in ("pair_dtype", "scaling") if key in present}
        return JointUORO(present.get("rank", 1), **kept)

    @wraps(init)
    def initialise(self: Any, *positions: Any, **settings: Any) -> None:
        init(self, **_present(positions, settings))

    cls.__new__ = create  # type: ignore[assignment,method-assign]  # of any arguments
    cls.__init__ = initialise  # type: ignore[misc]  # the same
    return cls


def _present(positions: tuple[Any, ...], settings: dict[str, Any]) -> dict[str, Any]:
    """Return the settings under their present names; warn of former ones."""
    named = dict(zip(FORMER_ORDER, positions, strict=False))
    if len(named) > 1:
        second = FORMER_ORDER[1]
        renamed(f"UORO(rank, {spelled(named[second])})", f"UORO(rank, {second}=...)", stacklevel=3)
    present = {**named, **settings}
    if "law" in present:
        renamed("UORO(law=...)", "UORO(distribution=...)", stacklevel=3)
        present["distribution"] = present.pop("law")
    if "reduction" in present:
        reduction = present.pop("reduction")
        call = f"UORO(reduction={spelled(reduction)})"
        require_choice(call, "reduction", reduction, ("independent", "optimal"))
        renamed(call, "JointUORO(rank)" if reduction == "optimal" else "UORO(rank)", stacklevel=3)
    return present
