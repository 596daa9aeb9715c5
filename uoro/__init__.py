"""Unbiased online gradients for recurrent models, on any autodiff framework."""

import typing as _typing

from uoro.backend import Backend as Backend
from uoro.deprecation import moved_names as _moved_names
from uoro.derivatives.unroll import unroll as unroll
from uoro.dynamics import Dynamics as Dynamics
from uoro.dynamics import Outcome as Outcome
from uoro.errors import BrokenBackendError as BrokenBackendError
from uoro.errors import CheckpointError as CheckpointError
from uoro.errors import DerivativeError as DerivativeError
from uoro.errors import DerivativeWarning as DerivativeWarning
from uoro.errors import DivergenceWarning as DivergenceWarning
from uoro.errors import LockedError as LockedError
from uoro.errors import MissingFrameworkError as MissingFrameworkError
from uoro.errors import NonFiniteError as NonFiniteError
from uoro.errors import ReproductionError as ReproductionError
from uoro.errors import SettingError as SettingError
from uoro.errors import StreamError as StreamError
from uoro.errors import StructureError as StructureError
from uoro.errors import UnknownNameError as UnknownNameError
from uoro.errors import UnseekableError as UnseekableError
from uoro.errors import UOROError as UOROError
from uoro.errors import UOROWarning as UOROWarning
from uoro.estimator import Estimate as Estimate
from uoro.estimator import Estimator as Estimator
from uoro.estimators import RTRL as RTRL
from uoro.estimators import UORO as UORO
from uoro.estimators import BlockRTRL as BlockRTRL
from uoro.estimators import JointUORO as JointUORO
from uoro.estimators import KroneckerSum as KroneckerSum
from uoro.estimators import RollingTruncated as RollingTruncated
from uoro.estimators import SnAp as SnAp
from uoro.estimators import Streams as Streams
from uoro.estimators import TruncatedBPTT as TruncatedBPTT
from uoro.learning import SGD as SGD
from uoro.learning import Adam as Adam
from uoro.learning import Clipped as Clipped
from uoro.learning import Learner as Learner
from uoro.optimizer import Optimizer as Optimizer
from uoro.registry import load_backend as load_backend
from uoro.registry import registered_backends as registered_backends

_MOVED = {
    "Influence": "uoro.estimators:Influence",
    "JointInfluence": "uoro.estimators:JointInfluence",
    "Metrics": "uoro.learning:Metrics",
    "ParallelEstimator": "uoro.estimators:ParallelEstimator",
    "RankReport": "uoro.monitors:RankReport",
    "RankRow": "uoro.monitors:RankRow",
    "Replicas": "uoro.lab.replicas:Replicas",
    "Summary": "uoro.learning:Summary",
    "Truncated": "uoro.estimators:Truncated = TruncatedBPTT(T), without unroll",
    "Windows": "uoro.learning.windows:Windows = learner.run(stream), which cuts windows itself",
    "bptt": "uoro.estimators:bptt",
}

# Monitors would be a third of what the import takes.
_LATER = {
    "suggest": "uoro.suggesting:suggest",
    "suggest_rank": "uoro.monitors:suggest_rank",
}

if _typing.TYPE_CHECKING:
    from uoro.monitors import suggest_rank as suggest_rank
    from uoro.suggesting import suggest as suggest
else:  # A type checker knows the names above and no other.
    __getattr__ = _moved_names(__name__, _MOVED, later=_LATER)
