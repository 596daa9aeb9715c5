"""A trained run leaves as a plain module or params; its metrics go to whoever listens."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from typer.testing import CliRunner
from uoro_torch import Online, lift_state

from uoro import CheckpointError, MissingFrameworkError, SettingError
from uoro.cli.app import app
from uoro.training import TensorBoardWriter, WandbWriter, load_run, read_metrics, reporting
from uoro.training.config import write_settings
from uoro.training.run import Run
from uoro.training.settings import Settings

FACTORY = """
import itertools, torch
from torch import nn
from uoro import load_backend
from uoro_torch import module_transition
class Read(nn.Module):
    def __init__(self):
        super().__init__()
        self.core, self.head = nn.GRUCell(1, 3), nn.Linear(3, 1)
    def forward(self, x, state):
        state = self.core(x, state)
        return self.head(state), state
def factory():
    torch.manual_seed(0)
    module = Read()
    transition = module_transition(module, nn.functional.mse_loss)
    dynamics = load_backend("torch").dynamics(transition, has_aux=True)
    item = (torch.ones(1), torch.zeros(1))
    return dynamics, dict(module.named_parameters()), torch.zeros(3), itertools.repeat(item)
"""


def settings(task: str, **more: Any) -> Settings:
    table = {"task": task, "steps": 20, "backend": "autograd", "metrics": {"every": 5}}
    return Settings.of(table | {"optimizer": {"name": "sgd", "learning_rate": 0.1}} | more)


def test_a_module_comes_back_from_its_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own.py").write_text(FACTORY)
    monkeypatch.chdir(tmp_path)
    run = Run(settings("own.py:factory", backend="torch", dtype="as made"), tmp_path / "run")
    begun = tmp_path / "begun"
    begun.mkdir()
    write_settings(begun, run.settings)
    with pytest.raises(CheckpointError, match="no checkpoint yet"):
        load_run(begun)
    run.go()
    trained = run.load()
    assert trained.step == 20
    module = sys.modules["own"].Read()
    assert list(trained.state_dict()) == sorted(module.state_dict())
    first = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    module.load_state_dict(trained.state_dict())
    assert all(not torch.equal(first[name], p) for name, p in module.state_dict().items())
    output, _ = module(torch.ones(1), torch.zeros(3))
    assert output.shape == (1,)

    said = CliRunner().invoke(app, ["export", str(run.folder), "--out", "net.safetensors"])
    assert said.exit_code == 0, said.output
    assert "6 arrays, 58 numbers, step 20" in " ".join(said.output.split())
    written = load_file("net.safetensors")
    assert all(torch.equal(written[name], p) for name, p in module.state_dict().items())
    with pytest.raises(SettingError, match=r"Trained\(.*own.py:factory\).model: .*state_dict"):
        _ = trained.model
    with pytest.raises(CheckpointError, match="expected a file that can be written"):
        trained.export(tmp_path / "nowhere" / "net.safetensors")


def test_a_built_in_task_comes_back_with_its_model(tmp_path: Path) -> None:
    network = {"cell": "rnn", "units": 4}
    run = Run(settings("anbn", network=network, options={"k": 1, "l": 2}), tmp_path / "run")
    heard = list[tuple[int, float]]()

    def on_metrics(step: int, metrics: Mapping[str, Any]) -> None:
        heard.append((step, metrics["loss"]))

    run.go(on_metrics=[on_metrics])
    lines = read_metrics(run.folder / "metrics.jsonl")
    assert heard == [(line["step"], line["loss"]) for line in lines]
    assert [step for step, _ in heard] == [5, 10, 15, 20]
    trained = load_run(run.folder)
    assert trained.alphabet is not None
    item = {"symbol": np.int64(0), "target": np.int64(1)}
    _, loss = trained.model.transition(np, trained.params, trained.state, item)
    assert np.isfinite(loss)
    assert set(trained.on("torch")) == set(trained.params)
    assert all("/" not in name for name in trained.arrays)
    trained.export(tmp_path / "net.safetensors")
    assert set(load_file(tmp_path / "net.safetensors")) == set(trained.arrays)


def test_online_trains_the_plain_module_itself() -> None:
    """Its state dict has the module's own names, and an untouched module loads it."""

    class Leaky(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.into, self.trace = nn.Linear(2, 3), torch.zeros(3)

        def forward(self, input: Any) -> Any:
            self.trace = 0.9 * self.trace + torch.tanh(self.into(input))
            return self.trace

    for make in (lambda: nn.GRU(2, 3), Leaky):
        module: Any = make()
        model = lift_state(module, torch.randn(2)) if isinstance(module, Leaky) else module
        online = Online.for_module(model)
        online(torch.randn(2)).sum().backward()
        names = list(module.state_dict())
        assert names == list(make().state_dict())
        make().load_state_dict(module.state_dict())
        assert all(param.grad is not None for param in module.parameters())


class FakeWandb:
    """The part of Weights & Biases that is used."""

    def __init__(self) -> None:
        self.options: dict[str, Any] = {}
        self.lines, self.finished = list[Any](), False

    def init(self, **options: Any) -> Any:
        self.options = options

        def finish() -> None:
            self.finished = True

        return SimpleNamespace(log=lambda d, step: self.lines.append((step, d)), finish=finish)


def test_one_protocol_serves_every_writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(MissingFrameworkError, match="pip install wandb"):
        WandbWriter(project="mine")
    fake = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    run = Run(settings("anbn", network={"cell": "rnn", "units": 4}), tmp_path / "run")
    with (
        WandbWriter(project="mine", mode="offline") as writer,
        TensorBoardWriter(tmp_path) as board,
    ):
        run.go(on_metrics=[writer.on_metrics, board.on_metrics])
        writer.on_metrics(21, {"loss": math.nan})
        writer.on_metrics(22, {"loss": math.inf, "flag": True, "word": "x", "count": 3})
    assert fake.options == {"project": "mine", "mode": "offline"}
    assert fake.finished
    steps = [step for step, _ in fake.lines]
    assert steps == [5, 10, 15, 20, 22]
    assert fake.lines[-1] == (22, {"count": 3.0})
    assert {"loss", "recent", "throughput"} <= fake.lines[0][1].keys()
    assert list(tmp_path.glob("events*"))
    with pytest.raises(SettingError, match="a function of a step and a dict"):
        reporting(3)  # type: ignore[arg-type]
