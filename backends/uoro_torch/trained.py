"""The protocol of what `Online` trains, and its plain form: a function."""

from __future__ import annotations

from typing import Any, Protocol


class Trained(Protocol):
    """A model as `Online` steps it: what it is given, and what changes between steps."""

    def item(self, inputs: tuple[Any, ...], seed: int, step: int, /) -> Any:
        """Return the item of a step, made of the arguments of `Online.step`.

        Args:
            inputs: Arguments of `Online.step`.
            seed: Seed of `Online`.
            step: Number of steps taken before.
        """
        ...

    def mode(self) -> list[bool]:
        """Return flags; when they change, the model is checked again."""
        ...

    def begin(self, state: Any, item: Any, *, again: bool) -> None:
        """Prepare the model check, before the first step and after a change of `mode`."""
        ...

    def keep(self, aux: Any, step: int, /) -> None:
        """Keep what the transition returned besides, after a step."""
        ...


class TrainedTransition:
    """A function, in which nothing changes between steps."""

    def item(self, inputs: tuple[Any, ...], seed: int, step: int) -> Any:
        """Return one argument as it is, several as a tuple."""
        return inputs[0] if len(inputs) == 1 else inputs

    def mode(self) -> list[bool]:
        """Return no flags: a function has one mode."""
        return []

    def begin(self, state: Any, item: Any, *, again: bool) -> None:
        """Prepare nothing."""

    def keep(self, aux: Any, step: int) -> None:
        """Keep nothing."""
