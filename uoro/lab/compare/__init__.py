"""Comparisons of backends and estimators on one task."""

from uoro.estimators.spelling import Choice as Choice
from uoro.estimators.spelling import parse_estimator as parse_estimator
from uoro.estimators.spelling import split_estimators as split_estimators
from uoro.lab.compare.compare import compare as compare
from uoro.lab.compare.comparison import Compared as Compared
from uoro.lab.compare.comparison import Comparison as Comparison
from uoro.lab.compare.comparison import write_json as write_json
from uoro.lab.compare.figure import draw as draw
from uoro.lab.compare.resolving import resolve as resolve
