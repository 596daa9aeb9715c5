"""Start the suite's command, or say what is missing to start it."""

from __future__ import annotations

import sys


def start() -> None:
    """Run ``python -m uoro_conformance``."""
    try:
        from uoro_conformance.command import main
    except ModuleNotFoundError as error:
        if error.name not in ("typer", "rich", "hypothesis"):
            raise
        print(
            f"uoro_conformance: it needs the module '{error.name}', which is not installed. "
            "Try: pip install 'uoro[conformance]'.",
            file=sys.stderr,
        )
        sys.exit(2)
    main()


if __name__ == "__main__":
    start()
