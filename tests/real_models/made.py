"""Every real model, made ready to be checked on its backend."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import torch
from uoro_torch import Online

from real_models.autograd_models import AUTOGRAD_MODELS, AutogradModel
from real_models.autograd_models import draw as draw_numpy
from real_models.jax_models import JAX_MODELS, JaxModel
from real_models.jax_models import draw as draw_jax
from real_models.odd_torch import ODD_MODELS
from real_models.torch_models import DTYPES, TORCH_MODELS, TorchModel
from uoro import UORO, load_backend

ITEMS = 4


class Made(NamedTuple):
    """A model in one dtype.

    Attributes:
        dynamics: Not yet probed.
        params: Of the dtype.
        state: Of the dtype.
        items: A short stream.
    """

    dynamics: Any
    params: Any
    state: Any
    items: list[Any]


class RealModel(NamedTuple):
    """A model of one framework.

    Attributes:
        backend: The name of its backend.
        name: Its own.
        outcome: ``"unbiased"`` or ``"surrogate"``.
        making: A context, given a dtype, that makes it.
        dtypes: Those it computes in.
    """

    backend: str
    name: str
    outcome: str
    making: Callable[[str], Any]
    dtypes: tuple[str, ...] = DTYPES


@contextmanager
def of_torch(model: TorchModel, dtype: str) -> Iterator[Made]:
    """Enter a context with a module, made in a dtype."""
    kind = getattr(torch, dtype)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        state = None if model.state is None else model.state(kind)
        online = Online.for_module(model.make().to(kind), model.loss, state, estimator=UORO())
        items = [
            (model.inputs(kind), model.target(kind), torch.tensor(seed)) for seed in range(ITEMS)
        ]
    yield Made(online.dynamics, online.params, online.state, items)


@contextmanager
def _of_jax(model: JaxModel, dtype: str) -> Iterator[Made]:
    backend = load_backend("jax")
    with backend.precision(dtype):
        made = model.make()
        items = [(draw_jax(10 + i, 3), draw_jax(20 + i, 2)) for i in range(ITEMS)]
        yield Made(backend.dynamics(made.transition), made.params, made.state, items)


@contextmanager
def _of_autograd(model: AutogradModel, dtype: str) -> Iterator[Made]:
    backend = load_backend("autograd")
    items = [(draw_numpy(10 + i, 3), draw_numpy(20 + i, 2)) for i in range(ITEMS)]
    params, state, items = backend.from_host((model.params, model.state, items), dtype=dtype)
    yield Made(backend.dynamics(model.transition), params, state, items)


def each_of(backend: str, models: Any, making: Any) -> list[RealModel]:
    """Return the models of a backend, with the contexts that make them."""
    return [
        RealModel(
            backend,
            model.name,
            model.outcome,
            partial(making, model),
            getattr(model, "dtypes", DTYPES),
        )
        for model in models
    ]


REAL_MODELS = [
    *each_of("torch", (*TORCH_MODELS, *ODD_MODELS), of_torch),
    *each_of("jax", JAX_MODELS, _of_jax),
    *each_of("autograd", AUTOGRAD_MODELS, _of_autograd),
]
