"""What a step costs: rows that take turns, a floor to hold them against, and what came of it."""

from uoro.speed.document import SpeedDocument as SpeedDocument
from uoro.speed.figure import draw as draw
from uoro.speed.floor import Floor as Floor
from uoro.speed.floor import Sizes as Sizes
from uoro.speed.floor import Work as Work
from uoro.speed.floor import least as least
from uoro.speed.plan import SCALES as SCALES
from uoro.speed.plan import SpeedPlan as SpeedPlan
from uoro.speed.table import facts as facts
from uoro.speed.table import table as table
