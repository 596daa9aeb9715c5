"""How much to check: `ci`, `dev` and `thorough`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from uoro.errors import UnknownNameError
from uoro_conformance.systems import GALLERY, System


@dataclass(frozen=True)
class Profile:
    """The amount of work of a run.

    Attributes:
        name: Name of the profile.
        gallery: Fixed systems, of which every law sees each.
        few: Systems for the laws of several pairs, several steps and several streams.
        examples: Number of further, random systems per law.
        delta: The relative bias that the test by sampling must tell from none.
        batch: Number of free runs side by side.
        steps: Length, in steps, of the runs whose signs are tested.
        enumerated: The systems over all of whose sign sequences the mean is taken.
        self_test: Whether the suite also tests itself: wrong estimators and right ones.
        any_size: Whether random systems have any size even where each has to be compiled.
        fast: Whether a process of the suite compiles fast, and not as users do.
    """

    name: str
    gallery: Sequence[System]
    few: Sequence[System]
    examples: int
    delta: float
    batch: int
    steps: int
    enumerated: Sequence[System]
    self_test: bool = False
    any_size: bool = False
    fast: bool = True


_BY_KIND = {system.kind: system for system in GALLERY}

PROFILES = {
    profile.name: profile
    for profile in (
        Profile(
            name="dev",
            gallery=[_BY_KIND[kind] for kind in ("linear", "tanh", "gru", "leaves")],
            few=[_BY_KIND["tanh"]],
            examples=5,
            delta=0.5,
            batch=256,
            steps=128,
            enumerated=[System("linear", 2, 3, 1)],
        ),
        Profile(
            name="ci",
            gallery=GALLERY,
            few=[_BY_KIND[kind] for kind in ("tanh", "leaves")],
            examples=20,
            delta=0.25,
            batch=1024,
            steps=512,
            enumerated=[System("linear", 2, 3, 1), System("tanh", 2, 4, 1)],
        ),
        Profile(
            name="thorough",
            gallery=GALLERY,
            few=GALLERY,
            examples=300,
            delta=0.1,
            batch=4096,
            steps=4096,
            enumerated=[System(kind, 2, 5, 1) for kind in ("linear", "tied", "tanh", "gru")],
            self_test=True,
            any_size=True,
            fast=False,
        ),
    )
}


def profile_named(name: str) -> Profile:
    """Return a profile by name.

    Raises:
        UnknownNameError: If there is none of that name.
    """
    if name not in PROFILES:
        raise UnknownNameError(f"profile {name!r}", "profile", name, PROFILES)
    return PROFILES[name]
