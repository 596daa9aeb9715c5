"""The paper's figures and table: runs, claims, verdicts."""

from uoro.reproduction.catalogue import EXPERIMENTS as EXPERIMENTS
from uoro.reproduction.catalogue import find as find
from uoro.reproduction.claims import Claim as Claim
from uoro.reproduction.document import Document as Document
from uoro.reproduction.experiment import Experiment as Experiment
from uoro.reproduction.pool import cores as cores
from uoro.reproduction.pool import execute as execute
from uoro.reproduction.report import report as report
from uoro.reproduction.run import Plan as Plan
from uoro.reproduction.run import Run as Run
