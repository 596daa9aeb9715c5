"""Print a table of real models: the autodiff mode of each, and whether UORO is unbiased on it.

python tests/real_models                      # all models, about ten minutes
python tests/real_models --only torch
python tests/real_models --write docs/models.md
"""

from __future__ import annotations

import argparse
import sys
import warnings
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from uoro_conformance import check_model  # the same

from real_models.installed import INSTALLED_MODELS  # the path comes first
from real_models.made import REAL_MODELS, RealModel, each_of, of_torch  # the same
from real_models.refused import REFUSED, Refused  # the same
from real_models.torch_models import DTYPES  # the same
from uoro.errors import DerivativeWarning, UOROError  # the same

HEAD = """\
# Real models

Printed by `python tests/real_models --write docs/models.md`, on a CPU. *Autodiff mode* is how the
model check decided to compute the Jacobian-vector product: "double vjp" differentiates the
vector-Jacobian product again. *Gap* is the relative adjoint gap at the first step, in float32 and
in float64: how far JVP and VJP are from adjoint. *Unbiased* is the verdict of the conformance suite
on the model: its derivatives obey the laws, and the mean of UORO's estimate over all signs equals
exact RTRL up to rounding. A surrogate gradient is not the derivative of its forward pass; for such
a model, RTRL uses the surrogate. Rows with a version are of libraries that
were installed besides; snnTorch computes in float32 alone.

| framework | model | autodiff mode | gap, float32 | gap, float64 | unbiased |
|---|---|---|---|---|---|
"""

MIDDLE = """
## Models that are refused or warned about

| framework | model | error or warning |
|---|---|---|
"""


def row(model: RealModel) -> tuple[str, bool]:
    """Return the line of a model, checked in both dtypes, and whether the suite passes."""
    gaps, routes, holds = list[str](), list[str](), list[bool]()
    for dtype in DTYPES:
        if dtype not in model.dtypes:
            gaps.append("-")
            continue
        with model.making(dtype) as (dynamics, params, state, items):
            report = check_model(
                dynamics, params, state, items, surrogate=model.outcome == "surrogate"
            )
            gaps.append("-" if dynamics.gap is None else f"{dynamics.gap:.0e}")
            routes.append(dynamics.route or "none")
            holds.append(report.exit_status == 0)
    verdict = {True: "yes", False: "**no**"}[all(holds)]
    if model.outcome == "surrogate":
        verdict += ", for the surrogate"
    route = " / ".join(dict.fromkeys(routes))
    cells = (model.backend, model.name, route, *gaps, verdict)
    return f"| {' | '.join(cells)} |", all(holds)


def refusal(model: Refused) -> tuple[str, bool]:
    """Return the line of a model that is refused, and whether the message is as expected."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            model.step()
            said = " ".join(
                str(each.message) for each in caught if each.category is DerivativeWarning
            )
        except UOROError as error:
            said = str(error)
    said = " ".join(said.split()).replace("|", "\\|")
    kind = "warning: " if model.warned else ""
    return f"| {model.backend} | {model.name} | {kind}{said} |", model.said in said


def main() -> int:
    """Print the table line by line; return 1 if any model deviates."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", choices=("torch", "jax", "autograd"))
    parser.add_argument("--write", type=Path, help="file to write the page to as well")
    options = parser.parse_args()
    warnings.simplefilter("ignore", DerivativeWarning)
    page, right = HEAD, True
    print(HEAD, end="", flush=True)
    models = [*REAL_MODELS, *each_of("torch", INSTALLED_MODELS, of_torch)]
    models.sort(key=lambda model: ("torch", "jax", "autograd").index(model.backend))
    rows = [partial(row, model) for model in models if options.only in (None, model.backend)]
    refusals = [
        partial(refusal, model) for model in REFUSED if options.only in (None, model.backend)
    ]
    for head, lines in (("", rows), (MIDDLE, refusals)):
        page += head
        print(head, end="")
        for make in lines:
            line, as_expected = make()
            right = right and as_expected
            page += line + "\n"
            print(line, flush=True)
    if options.write is not None:
        options.write.write_text(page, encoding="utf-8")
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
