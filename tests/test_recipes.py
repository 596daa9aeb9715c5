"""The recipes of `docs/recipes.md`: short, listed, and right where a falling loss cannot say so."""

from __future__ import annotations

import ast
import io
import re
import runpy
import subprocess
import sys
import tokenize
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

from uoro import RTRL

ROOT = Path(__file__).parent.parent
EXAMPLES, PAGE = ROOT / "examples", (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
RECIPES = sorted(set(re.findall(r"^\| \w[^|]*\| \[(\w+\.py)\]", PAGE, re.MULTILINE)))
MOST = 40
BLANK = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT,
         tokenize.ENDMARKER}  # fmt: skip


def _lines(source: str) -> int:
    """Count lines of code: neither blank, nor comments, nor docstrings."""
    said: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(
            node
        ):
            said.update(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    found: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in BLANK:
            found.update(range(token.start[0], token.end[0] + 1))
    return len(found - said)


def test_lines_are_counted() -> None:
    assert _lines('"""Says."""\n\n# A comment.\nx = [\n    1,\n]\ndef f():\n    """Do."""\n') == 4


def test_the_page_lists_recipes_for_seven_libraries() -> None:
    assert len(RECIPES) == 7


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_short(name: str) -> None:
    assert _lines((EXAMPLES / name).read_text(encoding="utf-8")) <= MOST


def test_every_link_of_the_page_leads_to_a_file() -> None:
    for link in re.findall(r"\]\(([^)]+)\)", PAGE):
        assert (ROOT / "docs" / link).exists(), link


@pytest.fixture
def river() -> Any:
    """Return the recipe's class, without its demonstration."""
    torch.manual_seed(0)
    return runpy.run_path(str(EXAMPLES / "river_model.py"))["OnlineRegressor"]({"a", "b"}, units=3)


ITEMS = [({"a": 0.5 * step, "b": -1.0}, 1.0 - step) for step in range(4)]


def test_the_river_recipe_refuses_targets_out_of_order(river: Any) -> None:
    for x, _ in ITEMS[:2]:
        river.predict_one(x)
    before = [param.clone() for param in river.core.parameters()]
    with pytest.raises(ValueError, match="expected the item predicted first"):
        river.learn_one(*ITEMS[1])
    assert all(map(torch.equal, before, river.core.parameters()))
    assert len(river.waiting) == 2
    river.learn_one(*ITEMS[0])
    assert not all(map(torch.equal, before, river.core.parameters()))
    assert len(river.waiting) == 1


def test_the_river_recipe_learns_an_item_that_was_not_predicted(river: Any) -> None:
    before = [param.clone() for param in river.core.parameters()]
    river.learn_one(*ITEMS[0])
    assert river.online.steps == 1
    assert not river.waiting
    assert not all(map(torch.equal, before, river.core.parameters()))


def test_the_late_targets_of_the_river_recipe_give_the_gradient_through_all_steps(
    river: Any,
) -> None:
    """At a learning rate of zero, the sum over targets is that of backpropagation through time."""
    params = [*river.core.parameters(), *river.readout.parameters()]
    total = [torch.zeros_like(param) for param in params]

    def record(*_: Any) -> None:
        for sum_, param in zip(total, params, strict=True):
            sum_ += param.grad

    river.optimizer.param_groups[0]["lr"] = 0.0
    river.optimizer.register_step_pre_hook(record)
    predicted = [river.predict_one(x) for x, _ in ITEMS]
    for x, y in ITEMS:
        river.learn_one(x, y)

    assert river.online.estimator == RTRL()
    state, loss, outputs = torch.zeros(3), torch.zeros(()), []
    for x, y in ITEMS:
        state = river.core(torch.tensor([x["a"], x["b"]]), state)
        outputs.append(river.readout(state))
        loss = loss + ((outputs[-1] - y) ** 2).sum()
    torch.testing.assert_close(torch.tensor(predicted), torch.cat(outputs).detach())
    for sum_, exact in zip(total, torch.autograd.grad(loss, params), strict=True):
        torch.testing.assert_close(sum_, exact)


RESUMED = """
import sys
source = open(sys.argv[1], encoding="utf-8").read()
assert source.count(".chunk(2)") == 2
halves, whole = {}, {}
exec(source, halves)
exec(source.replace(".chunk(2)", ".chunk(1)"), whole)
assert len(whole["losses"]) == len(halves["losses"]) == 600
assert whole["losses"] == halves["losses"]
"""
"""Two trainers, one after the other, beside one that learns the whole stream."""


UNROLLED = """
import sys
from importlib import import_module
import torch
from uoro import RTRL
from uoro_torch import Online, lift_state

recipe = {}
source = open(sys.argv[1], encoding="utf-8").read()
exec(source[:source.index("optimizer =")], recipe)
network, loss = recipe["network"], torch.nn.functional.mse_loss
params = list(network.parameters())
items = list(zip(2 * torch.randn(8, 1), torch.randn(8, 1)))
online = Online.for_module(lift_state(network, items[0][0]), loss, estimator=RTRL(), check=False)
for x, y in items:
    online.step(x, y)
getattr(import_module(sys.argv[2]), sys.argv[3])(network)
exact = torch.autograd.grad(sum(loss(network(x), y) for x, y in items), params)
for param, whole in zip(params, exact):
    assert whole.abs().max() > 0.01
    torch.testing.assert_close(param.grad, whole)
"""
"""The online gradient beside that of backpropagation through all steps, by the library itself."""


def _run(code: str, folder: Path, *arguments: str) -> None:
    command = [sys.executable, "-W", "error::UserWarning", "-c", code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)
    assert done.returncode == 0, done.stderr


def _needs(library: str) -> None:
    if find_spec(library) is None:
        pytest.skip(f"{library} is not installed")


def test_the_second_trainer_of_lightning_goes_on_bit_for_bit(tmp_path: Path) -> None:
    _needs("lightning")
    _run(RESUMED, tmp_path, str(EXAMPLES / "lightning_module.py"))


@pytest.mark.parametrize(
    ("library", "module", "reset"),
    [
        ("snntorch", "snntorch.utils", "reset"),
        ("spikingjelly", "spikingjelly.activation_based.functional", "reset_net"),
    ],
    ids=["snntorch", "spikingjelly"],
)
def test_lifted_neurons_have_the_gradient_through_all_steps(
    library: str, module: str, reset: str, tmp_path: Path
) -> None:
    _needs(library)
    _run(UNROLLED, tmp_path, str(EXAMPLES / f"{library}_neurons.py"), module, reset)
