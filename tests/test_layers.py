"""The order of the packages, drawn from their imports: nothing below knows what is above it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import uoro

ROOT = Path(uoro.__file__).parents[1]
SOURCES = {"uoro": ROOT, "backends": ROOT / "backends", "conformance": ROOT / "conformance"}

LAYERS = (
    {"uoro.errors", "uoro.deprecation"},
    {"uoro.backend", "uoro.dynamics", "uoro.optimizer"},  # protocols that name each other
    {"uoro.arguments", "uoro.algebra", "uoro.estimator"},
    {"uoro.registry", "uoro.schedules", "uoro.derivatives", "uoro.prediction"},
    {"uoro.estimators"},
    {"uoro.learning"},
    {"uoro.suggesting"},
    {"uoro.monitors"},
    {"uoro"},  # what one imports
    {"uoro_autograd", "uoro_torch", "uoro_jax"},
    {"uoro.files", "uoro.drawing", "uoro.models"},
    {"uoro.checkpoint", "uoro.tables"},
    {"uoro.tasks"},
    {"uoro.training", "uoro.transition"},
    {"uoro_conformance"},
    {"uoro.lab.jobs", "uoro.lab.replicas"},
    {"uoro.lab"},
    {"uoro.lab.compare", "uoro.lab.bench"},
    {"uoro.lab.reproduce"},
    {"uoro.cli"},
)
"""From the bottom up. What is in one layer imports only layers below, and itself."""

FLOOR = {room: number for number, layer in enumerate(LAYERS) for room in layer}
TOGETHER = 1
"""The one floor whose rooms may name each other."""


def room_of(module: str) -> str:
    """Return the longest prefix of a module's name that is a room."""
    parts = module.split(".")
    for length in range(len(parts), 0, -1):
        name = ".".join(parts[:length])
        if name in FLOOR and (length > 1 or name != "uoro" or len(parts) == 1):
            return name
    raise AssertionError(f"{module} is in no layer of {Path(__file__).name}. Give it a place.")


def imports_of(source: str) -> Iterator[str]:
    """List the modules of this distribution that a source imports, wherever in it."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        yield from (name for name in names if name.partition(".")[0].startswith("uoro"))


def modules() -> list[tuple[str, Path]]:
    """List the modules of the wheel."""
    found = []
    for folder, base in SOURCES.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(base).with_suffix("").parts
            found.append((".".join(parts).removesuffix(".__init__"), path))
    return found


def breaches(module: str, source: str) -> list[str]:
    """List what a module imports from above, or from beside."""
    here = room_of(module)
    return [
        f"{module} imports {name}: {here} is on floor {FLOOR[here]}, {there} on {FLOOR[there]}"
        for name in imports_of(source)
        for there in [room_of(name)]
        if there != here and FLOOR[there] >= FLOOR[here]
        if not FLOOR[there] == FLOOR[here] == TOGETHER
    ]


@pytest.mark.parametrize(("module", "path"), modules(), ids=lambda value: str(value)[-40:])
def test_nothing_below_imports_what_is_above(module: str, path: Path) -> None:
    found = breaches(module, path.read_text(encoding="utf-8"))
    assert not found, "\n".join(found)


@pytest.mark.parametrize("adapter", ["uoro_autograd", "uoro_torch", "uoro_jax"])
@pytest.mark.parametrize("above", ["uoro.lab.bench", "uoro.tasks", "uoro.training.run"])
def test_an_adapter_that_imports_an_application_is_refused(adapter: str, above: str) -> None:
    assert breaches(f"{adapter}.backend", f"from {above} import something")
    assert breaches(f"{adapter}.backend", f"def late():\n    import {above}")


def test_applications_do_not_borrow_from_each_other() -> None:
    assert breaches("uoro.training.figure", "from uoro.lab.compare.figure import draw")
    assert breaches("uoro.lab.compare.comparison", "from uoro.lab.bench.table import table")
    assert not breaches("uoro.lab.reproduce.learning", "from uoro.lab.compare.curve import Curve")


def unnamed(text: str) -> list[str]:
    """List the rooms and the folders that a page about the architecture leaves out."""
    page = re.sub(
        r"(\w*)\{([\w,]+)\}",
        lambda found: " ".join(f"{found[1]}{name}/" for name in found[2].split(",")),
        text,
    )
    wanted = set[str]()
    for module, path in modules():
        wanted.add(f"{path.parent.name}/")
        if module in FLOOR and path.name != "__init__.py":
            wanted.add(path.name)
    return sorted(name for name in wanted if not re.search(rf"(?<!\w){re.escape(name)}", page))


def test_the_page_about_the_architecture_names_every_folder_and_every_room() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    assert not unnamed(page)
    for name in ("monitors/", "{autograd,torch,jax}", "schedules.py", "mutants/"):
        missing = page.replace(name, "")
        assert unnamed(missing), name
