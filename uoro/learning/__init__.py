"""The learner: stream, estimator and optimizer in one loop."""

from uoro.learning.carry import Metrics as Metrics
from uoro.learning.carry import Summary as Summary
from uoro.learning.learner import Learner as Learner
from uoro.learning.optimizers import SGD as SGD
from uoro.learning.optimizers import Adam as Adam
from uoro.learning.optimizers import Clipped as Clipped
