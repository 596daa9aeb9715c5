"""Experiments: what the command line runs, without the command line."""

from uoro.experiments.compare import compare as compare
from uoro.experiments.figure import draw as draw
from uoro.experiments.naming import Choice as Choice
from uoro.experiments.naming import parse_estimator as parse_estimator
from uoro.experiments.naming import split_estimators as split_estimators
from uoro.experiments.plan import Cell as Cell
from uoro.experiments.plan import Plan as Plan
from uoro.experiments.plan import write_json as write_json
