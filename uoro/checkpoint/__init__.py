"""Checkpoints: what a run needs to go on, in files that are whole or refused."""

from uoro.checkpoint.file import read_checkpoint as read_checkpoint
from uoro.checkpoint.file import write_checkpoint as write_checkpoint
from uoro.checkpoint.folder import Checkpoints as Checkpoints
from uoro.checkpoint.folder import Damaged as Damaged
from uoro.checkpoint.folder import Found as Found
from uoro.checkpoint.learner import load_learner as load_learner
from uoro.checkpoint.learner import save_learner as save_learner
from uoro.checkpoint.lock import Holder as Holder
from uoro.checkpoint.lock import is_locked as is_locked
from uoro.checkpoint.lock import lock_holder as lock_holder
from uoro.checkpoint.lock import run_lock as run_lock
from uoro.checkpoint.snapshot import Snapshot as Snapshot
