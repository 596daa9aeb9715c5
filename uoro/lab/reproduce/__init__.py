"""The paper's figures and table: runs, claims, verdicts."""

from uoro.lab.jobs.pool import cores as cores
from uoro.lab.jobs.pool import execute as execute
from uoro.lab.jobs.run import Plan as Plan
from uoro.lab.jobs.run import Run as Run
from uoro.lab.reproduce.catalogue import EXPERIMENTS as EXPERIMENTS
from uoro.lab.reproduce.catalogue import find as find
from uoro.lab.reproduce.claims import Claim as Claim
from uoro.lab.reproduce.document import Document as Document
from uoro.lab.reproduce.experiment import Experiment as Experiment
from uoro.lab.reproduce.report import report as report
