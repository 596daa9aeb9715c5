"""Unbiased online gradients for recurrent models, on any autodiff framework."""

from uoro.backend import Backend as Backend
from uoro.backend import load_backend as load_backend
from uoro.backend import registered_backends as registered_backends
from uoro.dynamics import Dynamics as Dynamics
from uoro.dynamics import Outcome as Outcome
from uoro.errors import DerivativeError as DerivativeError
from uoro.errors import DerivativeWarning as DerivativeWarning
from uoro.errors import UOROError as UOROError
from uoro.estimator import Estimate as Estimate
from uoro.estimator import Estimator as Estimator
from uoro.estimators import RTRL as RTRL
from uoro.estimators import UORO as UORO
from uoro.estimators import Influence as Influence
from uoro.estimators import RollingTruncated as RollingTruncated
from uoro.estimators import Truncated as Truncated
from uoro.estimators import bptt as bptt
from uoro.learner import Learner as Learner
from uoro.metrics import Metrics as Metrics
from uoro.metrics import Summary as Summary
from uoro.optimizers import SGD as SGD
from uoro.optimizers import Adam as Adam
from uoro.optimizers import Optimizer as Optimizer
from uoro.parallel import Streams as Streams
from uoro.replicas import Replicas as Replicas
from uoro.stream import Windows as Windows
from uoro.unroll import unroll as unroll
