"""Tasks: identical models, numbers, streams and noise for every backend."""

from uoro.tasks.influence import influence_balancing as influence_balancing
from uoro.tasks.task import Task as Task
from uoro.tasks.text import Text as Text
from uoro.tasks.text import text as text
