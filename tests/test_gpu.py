"""The same laws on an accelerator, where there is one."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from systems import MODELS, build, entries, make_items, relative
from uoro_conformance import check_adjointness, check_mean_over_all_signs, check_rtrl_sums_to_bptt

from uoro import UORO, Adam, Backend, Learner, Streams, load_backend

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
                noise=({"0": {"h": np.ones((2, 4), dtype) * (-1) ** t}} for t in range(20)),
            )
            learner.run(
                {n: leaf[2 * i : 2 * i + 2] for n, leaf in items.items()} for i in range(20)
            )
            return backend.to_host(learner.params)

    there, here = run(accelerated), run(load_backend(name, device="cpu"))
    numpy = load_backend("autograd")
    assert relative(numpy, there, here) < (1e-9 if dtype == "float64" else 1e-3)
