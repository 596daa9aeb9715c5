"""Real models go in as they are; those that cannot are told of."""

from __future__ import annotations

import pytest
from real_models.made import REAL_MODELS, RealModel
from real_models.refused import REFUSED, Refused
from uoro_conformance import Trial, check_chain, check_gradient_path

from uoro import UORO
from uoro.errors import DerivativeWarning, UOROError

PLAIN_ROUTES = {"torch": "double vjp", "jax": "forward mode", "autograd": "forward mode"}

OTHER_ROUTES = {
    ("torch", "checkpoint"): "forward mode",
    ("torch", "a gated cell under torch.compile"): "forward mode",
    ("jax", "custom_vjp"): "double vjp",
    ("jax", "spikes by custom_vjp"): "double vjp",
    ("autograd", "a primitive with a vjp alone"): "double vjp",
}

STEPS = 2

OF_PYTORCH = ("ignore::FutureWarning", "ignore::DeprecationWarning")
"""What PyTorch says of its compiler, of scripts and of the older spectral norm."""


def _cases() -> list[object]:
    # JAX compiles each model anew, which takes seconds: once is enough here.
    dtypes = {"torch": ("float32", "float64"), "jax": ("float64",), "autograd": ("float32",)}
    return [
        pytest.param(model, dtype, id=f"{model.backend}-{model.name}-{dtype}")
        for model in REAL_MODELS
        for dtype in dtypes[model.backend]
    ]


@pytest.mark.parametrize(("model", "dtype"), _cases())
@pytest.mark.filterwarnings("ignore:LSTM with projections:UserWarning", *OF_PYTORCH)
def test_it_goes_in_by_the_best_route_and_uoro_is_unbiased_on_it(
    model: RealModel, dtype: str
) -> None:
    with model.making(dtype) as (dynamics, params, state, items):
        if model.outcome == "surrogate":
            with pytest.warns(DerivativeWarning, match="surrogate on purpose"):
                dynamics.probe(params, state, items[0])
        else:
            dynamics.probe(params, state, items[0])
            assert "Both agree with differences of forward" in dynamics.describe()
        wanted = OTHER_ROUTES.get((model.backend, model.name), PLAIN_ROUTES[model.backend])
        assert dynamics.route == wanted, dynamics.describe()
        assert dynamics.gap < (1e-5 if dtype == "float32" else 1e-13)
        trial = Trial(dynamics, [params] * STEPS, state, items[:STEPS], model.name)
        check_chain(trial, UORO()).require()
        check_gradient_path(trial, UORO()).require()


@pytest.mark.filterwarnings(*OF_PYTORCH)
@pytest.mark.parametrize("model", REFUSED, ids=lambda model: f"{model.backend}-{model.name}")
def test_what_cannot_be_differentiated_is_told_of(model: Refused) -> None:
    if model.warned:
        with pytest.warns(DerivativeWarning) as caught:
            model.step()
        assert any(model.said in str(each.message) for each in caught)
    else:
        with pytest.raises(UOROError) as refused:
            model.step()
        assert model.said in str(refused.value)
