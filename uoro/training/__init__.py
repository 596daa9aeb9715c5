"""Training runs, what they write, and what is read from it later."""

from uoro.training.curve import RunCurve as RunCurve
from uoro.training.curve import read_curve as read_curve
from uoro.training.figure import draw_runs as draw_runs
from uoro.training.listing import RunEntry as RunEntry
from uoro.training.listing import list_runs as list_runs
from uoro.training.loading import Trained as Trained
from uoro.training.loading import load_run as load_run
from uoro.training.log import MetricsLog as MetricsLog
from uoro.training.log import read_metrics as read_metrics
from uoro.training.metrics import OnMetrics as OnMetrics
from uoro.training.metrics import reporting as reporting
from uoro.training.problem import Problem as Problem
from uoro.training.run import Run as Run
from uoro.training.sample import sample as sample
from uoro.training.sample import unflatten as unflatten
from uoro.training.settings import Settings as Settings
from uoro.training.status import read_status as read_status
from uoro.training.status import write_status as write_status
from uoro.training.tensorboard import TensorBoardWriter as TensorBoardWriter
from uoro.training.wandb import WandbWriter as WandbWriter
