"""Start the command line, or name the library that is missing."""

from __future__ import annotations

import sys

EXTRA = ("typer", "rich", "matplotlib", "safetensors", "filelock", "tomli_w", "msgspec")
"""Modules of the extra ``cli``."""


def main() -> None:
    """Run ``uoro``.

    Exit status: 0 done; 1 a check failed; 2 the command cannot be run as given; 130 Ctrl-C.
    """
    try:
        from uoro.cli.app import run
    except ModuleNotFoundError as error:
        if error.name not in EXTRA:
            raise
        print(
            f"uoro: the command line needs the module '{error.name}', which is not installed. "
            "Try: pip install 'uoro[cli]'.",
            file=sys.stderr,
        )
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    run()
