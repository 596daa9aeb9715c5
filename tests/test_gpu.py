"""The same laws on an accelerator, where there is one."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from systems import MODELS, build, entries, make_items, relative
from torch import nn
from uoro_conformance import check_adjointness, check_mean_over_all_signs, check_rtrl_sums_to_bptt
from uoro_torch import Online

from uoro import RTRL, SGD, UORO, Adam, Backend, Estimator, Learner, Streams, load_backend

pytestmark = pytest.mark.gpu


def _accelerated(name: str) -> Backend:
    if name == "torch":
        if not torch.cuda.is_available():
            pytest.skip("PyTorch sees no CUDA device")
        return load_backend("torch", device="cuda")
    import jax

    if jax.default_backend() == "cpu":
        pytest.skip("JAX sees no device but the CPU")
    return load_backend("jax")


@pytest.mark.parametrize("name", ["torch", "jax"])
@pytest.mark.parametrize("model", MODELS)
def test_laws_hold_on_the_accelerator(name: str, model: str) -> None:
    backend = _accelerated(name)
    with backend.precision("float64"):
        dynamics, params, state = build(backend, MODELS[model])
        items = entries(backend, make_items(4), 4)
        check_adjointness(dynamics, params, state, items[0]).require()
        check_rtrl_sums_to_bptt(dynamics, params, state, items).require()


STOCK: dict[str, Callable[[], nn.Module]] = {
    "RNNCell": lambda: nn.RNNCell(3, 4),
    "GRUCell": lambda: nn.GRUCell(3, 4),
    "LSTMCell": lambda: nn.LSTMCell(3, 4),
    "GRU": lambda: nn.GRU(3, 4, 2),
    "LSTM": lambda: nn.LSTM(3, 4, 2),
    "LSTM, dropout between": lambda: nn.LSTM(3, 4, 2, dropout=0.5),
}


@pytest.mark.parametrize("training", [True, False], ids=["training", "eval"])
@pytest.mark.parametrize("streams", [None, 3])
@pytest.mark.parametrize("name", STOCK)
def test_stock_modules_find_a_route_on_the_accelerator(
    name: str, streams: int | None, training: bool
) -> None:
    """Among them those whose fused kernels have no forward mode, or no second derivative."""
    _accelerated("torch")
    torch.manual_seed(0)
    lead = () if streams is None else (streams,)
    inputs, targets = torch.randn(4, *lead, 3), torch.randn(4, *lead, 4)
    module = STOCK[name]().train(training)
    losses, gradients = dict[str, Any](), dict[str, Any]()
    for device in ("cpu", "cuda"):
        module = module.to(device)
        online = Online.for_module(
            module, nn.functional.mse_loss, streams=streams, estimator=RTRL()
        )
        module.zero_grad()
        losses[device] = [
            float(online.step(x.to(device), y.to(device)))
            for x, y in zip(inputs, targets, strict=True)
        ]
        gap = online.dynamics.gap
        assert gap is not None
        assert gap < 0.1, online.dynamics.describe()
        # Copies: `to` moves gradients in place.
        gradients[device] = [
            p.grad.cpu().clone() for p in module.parameters() if p.grad is not None
        ]
    if not (training and "dropout" in name):  # Which draws otherwise there.
        torch.testing.assert_close(losses["cuda"], losses["cpu"], rtol=1e-2, atol=1e-3)
        torch.testing.assert_close(gradients["cuda"], gradients["cpu"], rtol=2e-2, atol=2e-3)


@pytest.mark.parametrize("name", ["torch", "jax"])
def test_mean_over_all_signs_equals_rtrl_on_the_accelerator(name: str) -> None:
    backend = _accelerated(name)
    with backend.precision("float64"):
        dynamics, params, state = build(backend, MODELS["rnn"])
        items = entries(backend, make_items(2), 2)
        check_mean_over_all_signs(dynamics, [params] * 2, state, items).require()


@pytest.mark.parametrize("name", ["torch", "jax"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_run_on_the_accelerator_equals_the_one_on_the_cpu(name: str, dtype: str) -> None:
    accelerated = _accelerated(name)

    def run(backend: Backend) -> Any:
        with backend.precision(dtype):
            params, _ = MODELS["gru"].init(np.random.default_rng(0))
            stack = {"0": {"h": np.zeros((2, 4))}}
            items = make_items(40)
            learner = Learner(
                backend.dynamics(partial(MODELS["gru"].transition, backend.xp)),
                Streams(UORO(), 2),
                Adam(1e-3),
                backend.from_host(params, dtype=dtype),
                backend.from_host(stack, dtype=dtype),
                signs=({"0": {"h": np.ones((2, 4), dtype) * (-1) ** t}} for t in range(20)),
            )
            learner.run(
                {n: leaf[2 * i : 2 * i + 2] for n, leaf in items.items()} for i in range(20)
            )
            return backend.to_host(learner.params)

    there, here = run(accelerated), run(load_backend(name, device="cpu"))
    numpy = load_backend("autograd")
    assert relative(numpy, there, here) < (1e-9 if dtype == "float64" else 1e-3)


@pytest.mark.parametrize("estimator", [UORO(), RTRL()], ids=["uoro", "rtrl"])
def test_a_compiled_learner_equals_the_eager_one_on_the_accelerator(estimator: Estimator) -> None:
    """In float32 norms stay on the GPU, in float64, and are as coarse as what they are made of."""
    backend = _accelerated("torch")
    with backend.precision("float32"):
        dynamics, *start = build(backend, MODELS["gru"])
        params, state = backend.from_host(
            [backend.to_host(each) for each in start], dtype="float32"
        )
        eager, compiled = (
            Learner(dynamics, estimator, SGD(0.1), params, state, compile=compile)
            for compile in (False, True)
        )
        for item in entries(backend, make_items(3), 3):
            ours, theirs = compiled.step(item), eager.step(item)
            assert abs(float(ours.loss) - float(theirs.loss)) < 1e-4
    numpy = load_backend("autograd")
    assert relative(numpy, backend.to_host(compiled.params), backend.to_host(eager.params)) < 1e-3
