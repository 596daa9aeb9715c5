"""PyTorch as a backend, and the call that stands in for ``loss.backward()``."""

from uoro_torch.backend import TorchBackend as TorchBackend
from uoro_torch.distributed import DistributedStreams as DistributedStreams
from uoro_torch.dynamics import TorchDynamics as TorchDynamics
from uoro_torch.module import ModuleTransition as ModuleTransition
from uoro_torch.module import Step as Step
from uoro_torch.module import module_transition as module_transition
from uoro_torch.module_dynamics import ModuleDynamics as ModuleDynamics
from uoro_torch.online import Online as Online
from uoro_torch.optimizer import TorchOptimizer as TorchOptimizer
