"""A run that goes on until it is stopped, and says which process it is in."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any


def linger(settings: dict[str, Any], report: Any) -> dict[str, Any]:
    path = Path(settings["path"])
    path.with_suffix(".part").write_text(str(os.getpid()), encoding="utf-8")
    path.with_suffix(".part").rename(path)
    while True:
        time.sleep(0.05)
        report(0.5)
