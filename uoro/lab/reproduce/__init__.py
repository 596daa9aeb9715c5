"""The paper's figures and table: jobs, claims, verdicts."""

from uoro.lab.reproduce.catalogue import EXPERIMENTS as EXPERIMENTS
from uoro.lab.reproduce.catalogue import find as find
from uoro.lab.reproduce.claims import Claim as Claim
from uoro.lab.reproduce.document import Document as Document
from uoro.lab.reproduce.experiment import Experiment as Experiment
from uoro.lab.reproduce.plan import ReproductionPlan as ReproductionPlan
from uoro.lab.reproduce.report import report as report
