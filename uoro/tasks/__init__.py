"""Tasks: identical models, initial numbers, streams and signs on every backend."""

from uoro.tasks.anbn import AnBn as AnBn
from uoro.tasks.anbn import anbn as anbn
from uoro.tasks.brackets import DistantBrackets as DistantBrackets
from uoro.tasks.brackets import distant_brackets as distant_brackets
from uoro.tasks.catalogue import TASKS as TASKS
from uoro.tasks.catalogue import Entry as Entry
from uoro.tasks.catalogue import make_task as make_task
from uoro.tasks.copying import Copy as Copy
from uoro.tasks.copying import copying as copying
from uoro.tasks.corpus import Text as Text
from uoro.tasks.forecast import Forecast as Forecast
from uoro.tasks.growing import GrowingStream as GrowingStream
from uoro.tasks.influence import influence_balancing as influence_balancing
from uoro.tasks.pairs import PairStream as PairStream
from uoro.tasks.pipe import Pipe as Pipe
from uoro.tasks.recall import Recall as Recall
from uoro.tasks.recall import recall as recall
from uoro.tasks.sensor import Sensor as Sensor
from uoro.tasks.sensor import sensor as sensor
from uoro.tasks.symbols import Network as Network
from uoro.tasks.table import table as table
from uoro.tasks.task import Task as Task
from uoro.tasks.text import text as text
from uoro.tasks.tmaze import Maze as Maze
from uoro.tasks.tmaze import TMaze as TMaze
