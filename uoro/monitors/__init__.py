"""What a training run can log of its own gradient: cheap norms up to an exact shadow."""

from uoro.monitors.added import variance_added as variance_added
from uoro.monitors.beside import ReplicaMonitor as ReplicaMonitor
from uoro.monitors.beside import ShadowMonitor as ShadowMonitor
from uoro.monitors.looking import AddedMonitor as AddedMonitor
from uoro.monitors.looking import NoiseMonitor as NoiseMonitor
from uoro.monitors.looking import PairMonitor as PairMonitor
from uoro.monitors.looking import RadiusMonitor as RadiusMonitor
from uoro.monitors.monitor import Monitor as Monitor
from uoro.monitors.monitor import unwrap as unwrap
from uoro.monitors.naming import make_monitor as make_monitor
from uoro.monitors.noise import GradientNoise as GradientNoise
from uoro.monitors.noise import rank_noise as rank_noise
from uoro.monitors.noise import replica_noise as replica_noise
from uoro.monitors.pair import PairNorms as PairNorms
from uoro.monitors.pair import pair_norms as pair_norms
from uoro.monitors.radius import SpectralRadius as SpectralRadius
from uoro.monitors.radius import spectral_radius as spectral_radius
from uoro.monitors.ranks import RankReport as RankReport
from uoro.monitors.ranks import RankRow as RankRow
from uoro.monitors.ranks import suggest_rank as suggest_rank
from uoro.monitors.report import shadow_report as shadow_report
from uoro.monitors.shadow import ShadowCarry as ShadowCarry
from uoro.monitors.shadow import Shadowed as Shadowed
from uoro.monitors.shadow import restart as restart
