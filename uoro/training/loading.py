"""A trained run as what it has learned: parameters and model, without estimator and optimizer."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors import numpy as safetensors_numpy

from uoro.backend import Backend
from uoro.checkpoint.folder import Checkpoints
from uoro.errors import CheckpointError, SettingError, StructureError
from uoro.files.atomic import write_atomically
from uoro.models import Model, SymbolModel
from uoro.registry import load_backend
from uoro.tasks.catalogue import make_task
from uoro.training.config import settings_of
from uoro.training.sample import unflatten
from uoro.training.saving import CHECKPOINTS
from uoro.training.settings import Settings

PREFIX = "params/"


@dataclass(frozen=True)
class Trained:
    """What a training run has learned, of its newest checkpoint.

    Attributes:
        settings: Settings of the run.
        step: Number of updates.
        arrays: Parameters by the model's own names, such as ``"core.weight_ih_l0"``; levels of a
            nested dict are joined by dots.
        params: Parameters as the model takes them: host arrays, in nested dicts.
        state: Hidden state at the checkpoint, as `params`.
        alphabet: Symbols that a symbol task knows, by number; otherwise ``None``.
    """

    settings: Settings
    step: int
    arrays: dict[str, Any]
    params: Any
    state: Any
    alphabet: str | None

    @property
    def model(self) -> Model:
        """Model of a built-in task: any array library runs its ``transition(xp, params, …)``.

        Raises:
            SettingError: If the run is of a model of one's own.
        """
        settings, call = self.settings, f"Trained({self.settings.task}).model"
        if ":" in settings.task:
            raise SettingError(
                f"{call}: expected a built-in task, got a factory, whose model is its own. Load "
                "state_dict() into the module, or use params."
            )
        if self.alphabet is not None:
            return SymbolModel(settings.network.network().cells(), len(self.alphabet))
        options = {name: one for name, one in settings.options.items() if one is not None}
        return make_task(call, settings.task, options, settings.network.network()).model

    def state_dict(self) -> dict[str, Any]:
        """Return the parameters as tensors of PyTorch, for ``module.load_state_dict``.

        Raises:
            MissingFrameworkError: If PyTorch is not installed.
        """
        backend: Backend = load_backend("torch", device="cpu")
        return {name: backend.from_host(array) for name, array in self.arrays.items()}

    def on(self, backend: str) -> Any:
        """Return the parameters as arrays of a backend, in the tree that the model takes.

        Args:
            backend: Name of the backend.
        """
        loaded: Backend = load_backend(backend)
        return loaded.from_host(self.params)

    def export(self, path: str | os.PathLike[str]) -> None:
        """Write the parameters to a plain safetensors file, under the model's own names.

        Any reader opens it: ``safetensors.torch.load_file(path)`` is a state dict.

        Args:
            path: File, replaced whole or not at all.

        Raises:
            CheckpointError: If the file cannot be written.
        """
        call = f"Trained.export({os.fspath(path)!r})"
        metadata = {"format": "pt", "step": str(self.step), "task": self.settings.task}
        try:
            arrays = {name: np.ascontiguousarray(array) for name, array in self.arrays.items()}
            written = safetensors_numpy.save(arrays, metadata=metadata)
            write_atomically(Path(path), [written])
        except (OSError, SafetensorError) as error:
            reason = getattr(error, "strerror", None) or error
            raise CheckpointError(
                f"{call}: expected a file that can be written, got: {reason}. Try another folder."
            ) from error


def load_run(folder: str | os.PathLike[str]) -> Trained:
    """Load what a training run has learned: its parameters, without pair and optimizer.

    The stream is not opened, and a module of your own is not imported. The run may be at work.

    Args:
        folder: Folder of a run of ``uoro train``.

    Raises:
        SettingError: If there is no run in the folder.
        CheckpointError: If it has no checkpoint, or none is whole.

    Example:
        ``module.load_state_dict(load_run("runs/mine").state_dict())``
    """
    call = f"load_run({os.fspath(folder)!r})"
    settings = settings_of(Path(folder), call=call)
    found = Checkpoints(Path(folder) / CHECKPOINTS).latest()
    if found is None:
        raise CheckpointError(f"{call}: the run has no checkpoint yet. Try again later.")
    arrays, document = found.snapshot.arrays, found.snapshot.document
    alphabet = document.get("alphabet")
    try:
        step = int(document["learner"]["steps"])
        named = {
            name.removeprefix(PREFIX).replace("/", "."): array
            for name, array in arrays.items()
            if name.startswith(PREFIX)
        } or {"params": arrays["params"]}
    except (LookupError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{call}: expected a checkpoint of a run, got {found.path.name} of something else "
            f"({type(error).__name__}: {error})."
        ) from error
    params, state = (_tree(arrays, name) for name in ("params", "state"))
    return Trained(settings, step, named, params, state, alphabet)


def _tree(arrays: dict[str, Any], name: str) -> Any:
    """Return nested dicts of the arrays below a name, or the one array of that name."""
    if name in arrays:
        return arrays[name]
    try:
        return unflatten(arrays, name)
    except StructureError:
        if any(each.startswith(f"{name}/") for each in arrays):
            raise
        return {}
