"""One file per algorithm; each reads like its paper."""

from uoro.estimator import ParallelEstimator as ParallelEstimator
from uoro.estimators.auto import Auto as Auto
from uoro.estimators.baseline import Beside as Beside
from uoro.estimators.baseline import BesideBaseline as BesideBaseline
from uoro.estimators.block_rtrl import BlockRTRL as BlockRTRL
from uoro.estimators.chosen import Chosen as Chosen
from uoro.estimators.chosen import choose as choose
from uoro.estimators.joint import JointUORO as JointUORO
from uoro.estimators.joint_pairs import JointInfluence as JointInfluence
from uoro.estimators.kronecker import KroneckerSum as KroneckerSum
from uoro.estimators.kronecker_carry import KroneckerInfluence as KroneckerInfluence
from uoro.estimators.pair import Influence as Influence
from uoro.estimators.rolling import RollingTruncated as RollingTruncated
from uoro.estimators.rtrl import RTRL as RTRL
from uoro.estimators.snap import SnAp as SnAp
from uoro.estimators.streams import Streams as Streams
from uoro.estimators.traces import Traced as Traced
from uoro.estimators.traces import Traces as Traces
from uoro.estimators.truncated import Truncated as Truncated
from uoro.estimators.truncated import TruncatedBPTT as TruncatedBPTT
from uoro.estimators.truncated import bptt as bptt
from uoro.estimators.uoro import UORO as UORO
