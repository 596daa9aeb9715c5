"""Which estimator: bias, noise, time and memory of each on a model, and one recommendation."""

from uoro.estimators.recommending import Facts as Facts
from uoro.estimators.recommending import Recommendation as Recommendation
from uoro.estimators.recommending import Row as Row
from uoro.estimators.recommending import facts_of as facts_of
from uoro.estimators.recommending import recommended as recommended
from uoro.suggesting.suggest import suggest as suggest
from uoro.suggesting.suggestion import Suggestion as Suggestion
