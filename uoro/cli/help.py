"""Help that wraps at the width of the terminal, and options that every command spells alike."""

from __future__ import annotations

import inspect
import re
import sys
from typing import Any

import typer
from rich.console import Console
from typer.core import TyperCommand, TyperGroup

FLAG = ""
"""What an option takes that takes nothing; typer shows its type without it."""


class Command(TyperCommand):
    """A command whose help has no line breaks but those between paragraphs."""

    def __init__(self, *arguments: Any, help: str | None = None, **options: Any) -> None:
        paragraphs = re.split(r"\n\s*\n", inspect.cleandoc(help or ""))
        unwrapped = "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
        super().__init__(*arguments, help=unwrapped, **options)

    def get_help_option(self, ctx: Any) -> Any:
        """Return the option ``--help``, without a type."""
        return _untyped(super().get_help_option(ctx))


class Group(TyperGroup):
    """The commands together."""

    def get_help_option(self, ctx: Any) -> Any:
        """Return the option ``--help``, without a type."""
        return _untyped(super().get_help_option(ctx))


def _untyped(option: Any) -> Any:
    if option is not None:
        option.metavar, option.help = FLAG, "Show this help"
    return option


def renamed_flag(old: str, new: str, value: Any, present: Any) -> Any:
    """Return the value of an option that was given under its old name, and warn.

    Args:
        old: Old name, such as ``"--rate"``.
        new: New name.
        value: Value of the old one; ``None`` if it was not given.
        present: Value of the new one.
    """
    if value is None:
        return present
    print(
        f"uoro: {old} is deprecated and goes with the next minor release. Write {new}.",
        file=sys.stderr,
    )
    return value if present is None else present


def old_flag(name: str) -> Any:
    """Build the option for an old name, which the help does not list."""
    return typer.Option(name, hidden=True)


def words(text: str) -> list[str]:
    """Split a list at its commas."""
    return [word.strip() for word in text.split(",") if word.strip()]


def console() -> Console:
    """Build a console as wide as the terminal; wide enough for a table where there is none."""
    return Console(width=None if sys.stdout.isatty() else 130, emoji=False)
