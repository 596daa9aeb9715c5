"""The cost of a step: rows that take turns, and the roofline of each."""

from uoro.lab.bench.document import BenchDocument as BenchDocument
from uoro.lab.bench.figure import draw as draw
from uoro.lab.bench.plan import SCALES as SCALES
from uoro.lab.bench.plan import BenchPlan as BenchPlan
from uoro.lab.bench.roofline import Roofline as Roofline
from uoro.lab.bench.roofline import Sizes as Sizes
from uoro.lab.bench.roofline import Work as Work
from uoro.lab.bench.roofline import least as least
from uoro.lab.bench.table import facts as facts
from uoro.lab.bench.table import table as table
