"""NumPy-autograd as a backend: the reference one reads."""

from uoro_autograd.backend import AutogradBackend as AutogradBackend
from uoro_autograd.dynamics import AutogradDynamics as AutogradDynamics
