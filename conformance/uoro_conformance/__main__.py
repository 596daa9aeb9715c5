"""Start the suite's command, or report which module is missing."""

from __future__ import annotations

import sys


def start() -> None:
    """Run ``python -m uoro_conformance``."""
    try:
        from uoro_conformance.command import main
    except ModuleNotFoundError as error:
        if error.name not in ("typer", "rich", "hypothesis", "safetensors", "filelock"):
            raise
        print(
            f"uoro_conformance: expected the module '{error.name}', which is not installed. "
            "Try: pip install 'uoro[conformance]'.",
            file=sys.stderr,
        )
        sys.exit(2)
    main()


if __name__ == "__main__":
    start()
