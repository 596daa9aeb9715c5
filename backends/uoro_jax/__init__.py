"""JAX as a backend: whole chunks under one scan, and friendly to the user's own jit."""

from uoro_jax.backend import JaxBackend as JaxBackend
from uoro_jax.compiling import compiler_options as compiler_options
from uoro_jax.compiling import keep_compiled as keep_compiled
from uoro_jax.dynamics import JaxDynamics as JaxDynamics
from uoro_jax.models import Model as Model
from uoro_jax.models import from_apply as from_apply
from uoro_jax.models import from_module as from_module
from uoro_jax.models import from_nnx as from_nnx
from uoro_jax.optimizer import OptaxOptimizer as OptaxOptimizer
from uoro_jax.sharded import ShardedStreams as ShardedStreams
