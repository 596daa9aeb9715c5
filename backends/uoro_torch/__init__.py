"""PyTorch as a backend, and the call that stands in for ``loss.backward()``."""

from uoro.deprecation import moved_names
from uoro_torch.backend import TorchBackend as TorchBackend
from uoro_torch.distributed import DistributedStreams as DistributedStreams
from uoro_torch.lifting import lift_state as lift_state
from uoro_torch.module import SingleStep as SingleStep
from uoro_torch.module import module_transition as module_transition
from uoro_torch.online import Online as Online
from uoro_torch.optimizer import TorchOptimizer as TorchOptimizer

__getattr__ = moved_names(
    "uoro_torch",
    {
        "Step": "uoro_torch:SingleStep",
        "TorchDynamics": "uoro_torch.dynamics:TorchDynamics",
        "ModuleDynamics": "uoro_torch.module_dynamics:ModuleDynamics",
        "ModuleTransition": "uoro_torch.module:ModuleTransition",
    },
)
