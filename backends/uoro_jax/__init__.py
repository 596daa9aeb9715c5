"""JAX as a backend: compiled loops, and functions for the user's own `jit`, `scan` and `vmap`."""

import typing as _typing

from uoro.deprecation import moved_names as _moved_names
from uoro_jax.backend import JaxBackend as JaxBackend
from uoro_jax.building import online as online
from uoro_jax.compiling import compiler_options as compiler_options
from uoro_jax.compiling import keep_compiled as keep_compiled
from uoro_jax.dynamics import JaxDynamics as JaxDynamics
from uoro_jax.faults import Carry as Carry
from uoro_jax.models import FunctionalModel as FunctionalModel
from uoro_jax.models import from_apply as from_apply
from uoro_jax.models import from_module as from_module
from uoro_jax.models import from_nnx as from_nnx
from uoro_jax.online_gradient import OnlineGradient as OnlineGradient
from uoro_jax.optimizer import OptaxOptimizer as OptaxOptimizer
from uoro_jax.pullback import Pullback as Pullback
from uoro_jax.sharded import ShardedStreams as ShardedStreams

if not _typing.TYPE_CHECKING:  # A type checker knows the names above and no other.
    __getattr__ = _moved_names(__name__, {"Model": "uoro_jax:FunctionalModel"})
