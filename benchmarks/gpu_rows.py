"""Measure rows of `gpu.py` in a process of their own.

    python benchmarks/gpu_rows.py cuda '[{"backend": "jax", "mode": "scan", "units": 64, …}]'

Each finished row is printed as one line of JSON.
"""

from __future__ import annotations

import gc
import json
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from itertools import groupby
from typing import Any

import numpy as np

from uoro import RTRL, UORO, Estimator, JointUORO, KroneckerSum, Learner, Streams
from uoro.estimators import Truncated
from uoro.lab.bench.learning import Again, optimizer
from uoro.lab.bench.timing import calibrate, spread
from uoro.learning.carry import Progress
from uoro.learning.update import Clock, Update
from uoro.models import CELLS, SymbolModel

ALPHABET = 3
ROOM = 60e9  # bytes: largest estimate of a row that is measured
TURNS, SECONDS = 6, 0.1  # per row, and per turn
JOBS = 4  # rows that JAX compiles at a time; no row is timed meanwhile
ESTIMATORS: dict[str, Callable[[], Estimator]] = {
    "tbptt": Truncated,
    "uoro": UORO,
    "joint rank 4": partial(JointUORO, 4),
    "kronecker rank 2": partial(KroneckerSum, 2),
    "rtrl": RTRL,
}


@dataclass(frozen=True)
class Row:
    """One row of the table; `mode` is "scan", "eager" or "compiled"."""

    backend: str
    mode: str
    units: int
    streams: int
    estimator: str

    @property
    def carried(self) -> int:
        """Return how many numbers the estimator carries per param and stream."""
        carried = {"uoro": 1, "joint rank 4": 4, "kronecker rank 2": 5, "rtrl": self.units}
        return carried.get(self.estimator, 0)

    @property
    def bytes(self) -> float:
        """Return an estimate of the memory of a step: three times the estimator's carry."""
        return 12.0 * 3 * self.units**2 * self.streams * self.carried


class Problem:
    """The model of a row, with its arrays on the device and the items of one call."""

    def __init__(self, row: Row, device: str) -> None:
        self.row, self.several = row, row.streams > 1
        self.learner: Learner | None = None
        self.backend = backend = backend_of(row.backend, device)
        self.cuda = row.backend == "torch" and device.startswith("cuda")
        model = SymbolModel((CELLS["gru"](row.units),), alphabet=ALPHABET)
        numbers = 3.0 * row.units**2 * max(1, row.carried) * row.streams
        longest, most = (128, 1e10) if row.mode == "scan" else (16, 5e9)
        self.items = int(min(longest, max(4, most / numbers)))
        start = model.init(np.random.default_rng(0))
        self.params, state = (backend.from_host(tree, dtype="float32") for tree in start)
        self.state = backend.collect([state] * row.streams) if self.several else state
        self.dynamics = backend.dynamics(partial(model.transition, backend.xp))
        shape = (self.items, row.streams) if self.several else (self.items,)
        drawn = np.random.default_rng(1).integers(0, ALPHABET, (2, *shape)).astype(np.int32)
        self.block = backend.from_host({"symbol": drawn[0], "target": drawn[1]})
        first = {name: leaf[(0,) * len(shape)] for name, leaf in self.block.items()}
        self.dynamics.probe(self.params, state, first)
        forward, eager = row.estimator == "forward", row.mode == "eager"
        self.run = (self.forward if forward else self.by_torch if eager else self.learning)()

    @property
    def estimator(self) -> Estimator:
        """The estimator, of one stream or several."""
        one = ESTIMATORS[self.row.estimator]()
        return Streams(one, self.row.streams) if self.several else one

    def forward(self) -> Callable[[], Any]:
        """Return a function that runs the forward pass alone over all items."""
        backend, dynamics = self.backend, self.dynamics

        def go(params: Any, state: Any, block: Any) -> Any:
            def one(state: Any, item: Any) -> Any:
                outcome = dynamics.forward(params, state, item)
                return outcome.next_state, outcome.loss

            return backend.scan(backend.vmap(one) if self.several else one, state, block)[1]

        compiled = backend.compile(go)
        return lambda: backend.to_host(compiled(self.params, self.state, self.block))

    def learning(self) -> Callable[[], Any]:
        """Return a function that runs a `Learner` over all items and reads the losses."""
        given = self.dynamics, self.estimator, optimizer(), self.params, self.state
        learner = Learner(*given, donate=True, compile=self.row.mode == "compiled")
        self.learner = learner
        stream = Again(self.backend, self.block, self.items, window_length=1)
        return lambda: learner.run(stream, self.items, chunk=self.items)

    def by_torch(self) -> Callable[[], Any]:
        """Return a function that runs `Online`, or a truncated loop by hand, over all items."""
        import torch
        from uoro_torch import Online

        from uoro.lab.bench.torch_cells import gru

        leaves, items = self.backend.named_leaves, range(self.items)
        params, state = (
            {k: leaf.clone() for k, leaf in leaves(t)} for t in (self.params, self.state)
        )
        stack = {name: leaf.long() for name, leaf in self.block.items()}
        each = [{name: leaf[i] for name, leaf in stack.items()} for i in items]
        adam = torch.optim.Adam([p.requires_grad_() for p in params.values()], fused=True)
        plain = self.row.estimator == "plain"
        online = None if plain else Online(gru, params, state, estimator=self.estimator)
        model = batch if self.several else gru

        def run() -> None:
            nonlocal state
            for item in each:
                if online is None:
                    state, loss = model(params, state, item)
                    loss.backward()
                    state = {name: leaf.detach() for name, leaf in state.items()}
                else:
                    online.step(item)
                adam.step()
                adam.zero_grad()
            if self.cuda:
                torch.cuda.synchronize()

        return run

    def memory(self) -> int | None:
        """Return peak bytes on the device: PyTorch's allocator, or XLA's account of the program."""
        if self.cuda:
            import torch

            return torch.cuda.max_memory_allocated()
        if self.learner is None or self.row.backend != "jax":
            return None
        learner, backend = self.learner, self.backend
        update = Update(self.dynamics, self.estimator, optimizer())
        progress = Progress(learner.params, learner.state, None, None)
        now = update.start(progress, backend.map(lambda leaf: leaf[0], self.block))
        clock, indices = Clock.at(backend, backend.key(0), 0), backend.xp.arange(self.items)
        chunk = backend.compile(update.advance_chunk, donate=True)
        given = now, self.block, None, clock, indices, (0, self.items)
        found = chunk.lower(*given).compile().memory_analysis()
        arguments, results = found.argument_size_in_bytes, found.output_size_in_bytes
        return int(arguments + results + found.temp_size_in_bytes - found.alias_size_in_bytes)


def backend_of(name: str, device: str) -> Any:
    """Return a backend by its class; works where the package is not installed."""
    if name == "torch":
        import torch
        from uoro_torch import TorchBackend

        if device.startswith("cuda"):
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        return TorchBackend(device=device)
    from uoro_jax import JaxBackend

    backend = JaxBackend(device="cpu" if device == "cpu" else None)
    if device != "cpu" and backend.device.startswith("cpu"):
        raise RuntimeError("JAX sees no device but the CPU")
    return backend


def batch(params: Any, state: Any, item: Any) -> tuple[Any, Any]:
    """Return the next state of the GRU and the mean loss, all streams as one batch."""
    import torch
    from torch.nn import functional as F

    h, n = state["0/h"], state["0/h"].shape[1]
    given = F.embedding(item["symbol"], params["0/input"]) + params["0/bias"]
    gates = torch.sigmoid(torch.addmm(given[:, : 2 * n], h, params["0/gates"].T))
    reset = gates[:, n:] * h
    candidate = torch.tanh(torch.addmm(given[:, 2 * n :], reset, params["0/candidate"].T))
    h = torch.lerp(h, candidate, gates[:, :n])
    logits = torch.addmm(params["readout/bias"], h, params["readout/map"].T)
    return {"0/h": h}, F.cross_entropy(logits, item["target"])


def made(row: Row, device: str) -> Problem:
    """Build a row and run it twice, so that everything is compiled."""
    problem = Problem(row, device)
    for _ in range(2):
        problem.run()
    return problem


def measured(work: Problem) -> dict[str, Any]:
    """Return times and memory of a row that is compiled."""
    ready, times = calibrate(work, SECONDS), list[float]()
    for _ in range(TURNS):
        begun = time.perf_counter()
        for _ in range(ready.calls):
            work.run()
        times.append(1e6 * (time.perf_counter() - begun) / (ready.calls * work.items))
    low, median, high = spread(times)
    found = {"microseconds": median, "low": low, "high": high, "turns": times}
    return found | {"steps_a_turn": ready.calls * work.items, "memory_bytes": work.memory()}


def work_off(rows: Sequence[Row], device: str) -> None:
    """Measure rows in order and print each as a line; a failed row does not stop the others."""
    groups = [list(group) for _, group in groupby(rows, lambda row: (row.units, row.streams))]
    for group in groups:
        # Rows of JAX that fit on the device together are compiled at the same time.
        together = group[0].mode == "scan" and sum(row.bytes for row in group) < ROOM
        with ThreadPoolExecutor(JOBS) as pool:
            futures = [pool.submit(made, row, device) for row in group if together]
        for row in group:
            begun, found = time.perf_counter(), dict[str, Any]()
            try:
                work = futures.pop(0).result() if together else made(row, device)
                found = measured(work)
            except Exception as error:
                found["error"] = f"{type(error).__name__}: {error}"[:1500]
            work = None  # type: ignore[assignment]  # Frees its memory.
            gc.collect()
            found["seconds"] = time.perf_counter() - begun
            print(json.dumps({"row": asdict(row), "found": found}), flush=True)


if __name__ == "__main__":
    work_off([Row(**each) for each in json.loads(sys.argv[2])], sys.argv[1])
