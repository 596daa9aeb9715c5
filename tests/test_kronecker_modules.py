"""Kronecker sums on cells of PyTorch, Equinox and Flax as they are, and what surrounds them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import linen, nnx
from real_models.jax_models import EquinoxModel, NnxModel, squared
from torch import nn
from torch.nn import functional
from uoro_conformance.kronecker import check_mean_of_terms
from uoro_jax import from_apply, from_module
from uoro_torch import Online

from uoro import RTRL, Backend, JointUORO, KroneckerSum, load_backend
from uoro.errors import SettingError, StructureError

IN, UNITS = 3, 3
MSE = functional.mse_loss
TOLERANCE = 1e-10

STOCK: dict[str, Callable[[], nn.Module]] = {
    "RNNCell": lambda: nn.RNNCell(IN, UNITS),
    "GRUCell": lambda: nn.GRUCell(IN, UNITS),
    "LSTMCell": lambda: nn.LSTMCell(IN, UNITS),
    "LSTM": lambda: nn.LSTM(IN, UNITS, 1),
    "LSTM, 2 layers": lambda: nn.LSTM(IN, UNITS, 2),
}


def _require_mean(dynamics: Any, params: Any, state: Any, items: Any, rank: int) -> None:
    """Compare with RTRL while the params move from step to step."""
    backend: Backend = dynamics.backend
    generator = np.random.default_rng(0)

    def moved(leaf: Any) -> Any:
        return leaf + backend.from_host(0.1 * generator.normal(size=tuple(leaf.shape)))

    schedule = [backend.map(moved, params) for _ in items]
    estimator = KroneckerSum(rank)
    carry = estimator.init(dynamics, schedule[0], state, inputs=items[0])
    assert carry.terms, "no matrix has an outer product"
    finding = check_mean_of_terms(
        dynamics, schedule, state, items, estimator=estimator, fixed=rank, tolerance=TOLERANCE
    )
    finding.require()


def _online(name: str, **settings: Any) -> tuple[Online, Callable[[], Any]]:
    torch.manual_seed(0)
    module = STOCK[name]().double()
    online = Online.for_module(module, MSE, **settings)
    lead = (settings["streams"],) if "streams" in settings else ()

    def item() -> Any:
        return torch.randn(*lead, IN).double(), torch.randn(*lead, UNITS).double()

    return online, item


def _gradient(online: Online) -> torch.Tensor:
    found = [param.grad for param in online.params.values()]
    return torch.cat([gradient.reshape(-1) for gradient in found if gradient is not None])


@pytest.mark.parametrize("rank", [1, pytest.param(2, marks=pytest.mark.thorough)])
@pytest.mark.parametrize("name", STOCK)
def test_mean_over_all_signs_equals_rtrl_on_stock_cells_of_torch(name: str, rank: int) -> None:
    online, item = _online(name, estimator=KroneckerSum(rank))
    items = [(*item(), torch.tensor(0)) for _ in range(rank + 2)]
    _require_mean(online.dynamics, online.params, online.state, items, rank)


def _equinox(cell: Any, state: Any) -> Any:
    keys = jax.random.split(jax.random.key(0))
    readout = eqx.nn.Linear(UNITS, 2, key=keys[1])
    return from_module(EquinoxModel(cell(IN, UNITS, key=keys[0]), readout), squared, state)


def _linen() -> Any:
    class Network(linen.Module):
        @linen.compact
        def __call__(self, input: Any, state: Any) -> Any:
            kind: Any = {"param_dtype": jnp.float64}
            state, output = linen.GRUCell(UNITS, **kind)(state, input)
            return linen.Dense(2, **kind)(output), state

    module, state = Network(), jnp.zeros(UNITS)
    params = module.init(jax.random.key(0), jnp.zeros(IN), state)
    return from_apply(module.apply, squared, params, state)


FUNCTIONAL: dict[str, Callable[[], Any]] = {
    "Equinox GRUCell": lambda: _equinox(eqx.nn.GRUCell, jnp.zeros(UNITS)),
    "Equinox LSTMCell": lambda: _equinox(eqx.nn.LSTMCell, (jnp.zeros(UNITS), jnp.zeros(UNITS))),
    "Flax Linen GRUCell": _linen,
    "Flax NNX GRUCell": lambda: from_module(
        NnxModel(nnx.GRUCell, nnx.Rngs(0), 0.0), squared, jnp.zeros(4)
    ),
}
THOROUGH = ("Equinox LSTMCell", "Flax Linen GRUCell", "Flax NNX GRUCell")


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.thorough) if name in THOROUGH else name
     for name in FUNCTIONAL],
)  # fmt: skip
def test_mean_over_all_signs_equals_rtrl_on_cells_of_jax_libraries(name: str) -> None:
    backend = load_backend("jax")
    with backend.precision("float64"):
        made = FUNCTIONAL[name]()
        generator = np.random.default_rng(1)
        items = [
            (jnp.asarray(generator.normal(size=IN)), jnp.asarray(generator.normal(size=2)))
            for _ in range(3)
        ]
        _require_mean(backend.dynamics(made.transition), made.params, made.state, items, 1)


# What surrounds an estimator.


@pytest.mark.parametrize("group", [False, True])
@pytest.mark.parametrize("name", ["GRUCell", "LSTM, 2 layers"])
def test_a_module_trained_at_a_high_rank_is_trained_by_rtrl(name: str, group: bool) -> None:
    found = []
    for estimator in (KroneckerSum(9, group=group), RTRL()):
        online, item = _online(name, estimator=estimator)
        optimizer = torch.optim.SGD(online.params.values(), 0.1)
        for _ in range(4):
            optimizer.zero_grad()
            online.step(*item())
            optimizer.step()
        found.append(torch.cat([param.detach().reshape(-1) for param in online.params.values()]))
    assert (found[0] - found[1]).abs().max() < 1e-12


def test_streams_of_a_module() -> None:
    """Rows of one batch, each with terms of its own: with terms enough, the mean is RTRL's."""
    found = []
    for estimator in (KroneckerSum(9), RTRL()):
        online, item = _online("GRUCell", streams=3, estimator=estimator)
        for _ in range(3):
            for param in online.params.values():
                param.grad = None
            online.step(*item())
        found.append(_gradient(online))
    assert (found[0] - found[1]).abs().max() < 1e-12


def test_a_module_is_saved_and_goes_on_bit_for_bit() -> None:
    online, item = _online("GRUCell", estimator=KroneckerSum(1), seed=5)
    items = [item() for _ in range(5)]
    for x, y in items[:3]:
        online.step(x, y)
    saved = online.state_dict()
    losses = [float(online.step(x, y)) for x, y in items[3:]]
    again, _ = _online("GRUCell", estimator=KroneckerSum(1), seed=5)
    again.step(*items[0])
    again.load_state_dict(saved)
    for param in again.params.values():
        param.grad = None
    assert [float(again.step(x, y)) for x, y in items[3:]] == losses
    online.load_state_dict(saved)
    for param in online.params.values():
        param.grad = None
    for x, y in items[3:]:
        online.step(x, y)
    assert torch.equal(_gradient(online), _gradient(again))


def test_a_carry_that_is_loaded_before_the_first_step_waits_for_it() -> None:
    online, item = _online("GRUCell", estimator=KroneckerSum(1))
    items = [item() for _ in range(4)]
    for each in items[:2]:
        online.step(*each)
    fresh, _ = _online("GRUCell", estimator=KroneckerSum(1))
    saved = online.state_dict()
    fresh.load_state_dict(saved)
    assert all(map(torch.equal, fresh.state_dict()["carry"], saved["carry"])), "kept if saved again"
    for each in items[2:]:
        assert float(fresh.step(*each)) == float(online.step(*each))
    assert all(map(torch.equal, fresh.state_dict()["carry"], online.state_dict()["carry"]))


def test_a_carry_of_another_estimator_is_refused_at_the_first_step() -> None:
    online, item = _online("GRUCell", estimator=KroneckerSum(2))
    online.step(*item())
    fresh, _ = _online("GRUCell", estimator=KroneckerSum(1))
    fresh.load_state_dict(online.state_dict())
    with pytest.raises(StructureError, match="Was it saved from another model or estimator"):
        fresh.step(*item())


def test_streams_are_not_reset_one_by_one_while_a_carry_waits() -> None:
    online, item = _online("GRUCell", streams=2, estimator=KroneckerSum(1))
    online.step(*item())
    fresh, _ = _online("GRUCell", streams=2, estimator=KroneckerSum(1))
    fresh.load_state_dict(online.state_dict())
    with pytest.raises(SettingError, match="Take a step first"):
        fresh.reset(torch.tensor([True, False]))
    fresh.reset()
    assert fresh.state_dict()["carry"] is None


@pytest.mark.parametrize("streams", [None, 2])
def test_under_autocast_joint_pairs_are_reduced_in_their_own_dtype(streams: int | None) -> None:
    gradients = []
    for on in (False, True):
        torch.manual_seed(0)
        core = nn.GRUCell(IN, UNITS)
        online = Online.for_module(core, MSE, streams=streams, estimator=JointUORO(4))
        for _ in range(4):
            x = torch.randn(*([streams] if streams else []), IN)
            y = torch.zeros(*([streams] if streams else []), UNITS)
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=on):
                online.step(x, y)
        gradients.append(_gradient(online))
    exact, coarse = gradients
    assert 0 < float((coarse - exact).norm()) < 0.03 * float(exact.norm())


def test_under_autocast_rounding_is_that_of_its_dtype() -> None:
    module = nn.GRUCell(IN, UNITS)
    online = Online.for_module(module, MSE, estimator=KroneckerSum(2))
    for _ in range(3):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = online.step(torch.randn(IN), torch.randn(UNITS))
        assert torch.isfinite(loss)


@pytest.mark.thorough
@pytest.mark.filterwarnings("ignore:`torch._prims_common.check` is deprecated:FutureWarning")
def test_a_compiled_module_takes_the_steps_of_an_eager_one() -> None:
    found = []
    for compile in (False, True):
        online, item = _online("GRUCell", estimator=KroneckerSum(1), compile=compile)
        losses = [float(online.step(*item())) for _ in range(3)]
        found.append((losses, _gradient(online)))
    np.testing.assert_allclose(found[0][0], found[1][0], rtol=1e-10)
    torch.testing.assert_close(found[0][1], found[1][1], rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_params_of_lower_precision(dtype: Any) -> None:
    """With terms enough for every direction, the gradient is RTRL's up to rounding."""
    found = []
    for estimator in (KroneckerSum(9), RTRL()):
        torch.manual_seed(0)
        module = nn.GRUCell(IN, UNITS).to(dtype)
        online = Online.for_module(module, MSE, estimator=estimator, check=False)
        for _ in range(3):
            online.step(torch.randn(IN).to(dtype), torch.randn(UNITS).to(dtype))
        assert all(param.dtype == dtype for param in online.params.values())
        found.append(_gradient(online).double())
    error = (found[0] - found[1]).norm() / found[1].norm()
    assert error < {torch.float32: 1e-5, torch.bfloat16: 0.1}[dtype], error
