"""What a training run can log of its own gradient: cheap norms up to an exact shadow."""

from uoro.monitors.report import shadow_report as shadow_report
from uoro.monitors.shadow import Shadowed as Shadowed
from uoro.monitors.shadow import ShadowMemory as ShadowMemory
from uoro.monitors.shadow import restart as restart
