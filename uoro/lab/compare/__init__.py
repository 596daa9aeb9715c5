"""Experiments: what the command line runs, without the command line."""

from uoro.estimators.spelling import Choice as Choice
from uoro.estimators.spelling import parse_estimator as parse_estimator
from uoro.estimators.spelling import split_estimators as split_estimators
from uoro.lab.compare.compare import compare as compare
from uoro.lab.compare.figure import draw as draw
from uoro.lab.compare.plan import Cell as Cell
from uoro.lab.compare.plan import Plan as Plan
from uoro.lab.compare.plan import write_json as write_json
