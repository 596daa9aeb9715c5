"""The protocol of an optimizer: init and update, in optax's order of arguments."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from uoro.backend import Backend
from uoro.deprecation import renamed


class Optimizer(Protocol):
    """Changes the parameters by a gradient.

    `SGD`, `Adam` and `Clipped` come with the library; `uoro_torch.TorchOptimizer` and
    `uoro_jax.OptaxOptimizer` wrap an optimizer of the framework.

    Laws: `init` and `update` are functions of their arguments, and change none of them; the
    optimizer's state keeps its structure, shapes and dtypes. A `Savable` optimizer is exempt.
    """

    def init(self, backend: Backend, params: Any) -> Any:
        """Return the optimizer's state before the first update."""
        ...

    def update(
        self, backend: Backend, gradient: Any, opt_state: Any, params: Any, time: Any
    ) -> tuple[Any, Any]:
        """Return the parameters and the optimizer's state after one step downhill.

        Args:
            backend: Backend of the trees.
            gradient: Gradient of the loss, shaped like the parameters.
            opt_state: State from `init` or from the previous update.
            params: Parameters before the update.
            time: Index of the newest item of the stream that the gradient depends on, from 0.
        """
        ...


@runtime_checkable
class Savable(Protocol):
    """An optimizer that keeps its state itself and changes the parameters in place.

    Law: after `restore` of what `export` returned, the optimizer updates as the exported one
    would have, bit for bit.
    """

    def export(self, backend: Backend) -> tuple[Any, Any]:
        """Return a tree of tensors, and everything else as JSON can write it.

        Raises:
            SettingError: If the optimizer keeps something that cannot be saved.
        """
        ...

    def restore(
        self, backend: Backend, held: Any, params: Any, arrays: dict[str, Any], numbers: Any
    ) -> None:
        """Load what `export` returned.

        Args:
            backend: Backend of the tensors.
            held: Parameters that the optimizer updates; their values are overwritten in place.
            params: Values for these parameters.
            arrays: Host arrays by name; those of the optimizer are named ``"optimizer/…"``.
            numbers: Second part of what `export` returned.

        Raises:
            StructureError: If the arrays are not those of such an optimizer.
        """
        ...


@dataclass(frozen=True)
class ParamsFirst:
    """Adapt an optimizer written for versions before 0.2, ``update(backend, params, gradient, …)``.

    Args:
        optimizer: Optimizer whose `update` takes the parameters before the gradient.
    """

    optimizer: Any

    def init(self, backend: Backend, params: Any) -> Any:
        """Return the optimizer's state before the first update."""
        return self.optimizer.init(backend, params)

    def update(
        self, backend: Backend, gradient: Any, opt_state: Any, params: Any, time: Any
    ) -> tuple[Any, Any]:
        """Return the parameters and the state that the adapted optimizer returns."""
        updated: tuple[Any, Any] = self.optimizer.update(backend, params, gradient, opt_state, time)
        return updated


def in_present_order(optimizer: Any, *, stacklevel: int = 1) -> Optimizer:
    """Return the optimizer, adapted with a warning if it takes the parameters first.

    Args:
        optimizer: Anything with `init` and `update`.
        stacklevel: Number of calls between the user's line and this one.
    """
    try:
        names = list(inspect.signature(optimizer.update).parameters)
    except (TypeError, ValueError):
        return optimizer  # type: ignore[no-any-return]  # checked by the caller
    if names[1:2] != ["params"]:
        return optimizer  # type: ignore[no-any-return]  # checked by the caller
    name = type(optimizer).__name__
    renamed(
        f"{name}.update(backend, params, gradient, opt_state, time)",
        f"{name}.update(backend, gradient, opt_state, params, time)",
        stacklevel=stacklevel + 1,
    )
    return ParamsFirst(optimizer)
