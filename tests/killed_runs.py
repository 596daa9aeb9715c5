"""Run ``uoro train`` over many lives, all but the last ended by SIGKILL; a script, not a test.

``python tests/killed_runs.py BACKEND FOLDER KILLS`` makes two runs in the folder, ``killed`` and
``undisturbed``, which end at the same step, and prints as JSON what it did. Most lives are forks of
this process, which has imported everything and made no array, so that a life costs no more than the
run itself; some are processes of their own.
"""

from __future__ import annotations

import importlib
import json
import os
import random
import signal
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, NoReturn

# Steps from one checkpoint to the next, and from one line of metrics to the next: 20 to 50 ms.
BEATS = {"autograd": (8, 3), "torch": (8, 3), "jax": (60, 25)}
# What a run imports on its way: with PyTorch, that is most of its first second.
LATER = {"autograd": (), "torch": ("torch._dynamo",), "jax": ()}
KINDS = ("anywhere", "anywhere", "between", "writing")
# Lives that are processes of their own.
OWN = (0, 17, 33)
TORN = 5
PAUSE = 5e-4
PATIENCE = 60.0


class Life(NamedTuple):
    """How a life went.

    Attributes:
        kind: How the instant of its death was chosen.
        begun: The newest checkpoint when it began; 0 if there was none.
        ended: The newest checkpoint when it was killed.
        torn: Whether a checkpoint was half written then.
        own: Whether it was a process of its own.
    """

    kind: str
    begun: int
    ended: int
    torn: bool
    own: bool


class Pace:
    """How long lives take, so that the instants of their deaths fall into all their phases.

    Attributes:
        first: Seconds from the beginning of a life to its first checkpoint.
        next: From one checkpoint to the next.
    """

    def __init__(self) -> None:
        self.first, self.next = 1.0, 0.05


def main() -> None:
    """Make both runs."""
    backend, folder, kills = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    generator = random.Random(backend)
    import_everything(backend)
    folder.mkdir(exist_ok=True)
    killed, undisturbed = folder / "killed", folder / "undisturbed"
    lives: list[Life] = []
    pace = Pace()
    while len(lives) < kills:
        kind = generator.choice(KINDS)
        if kills - len(lives) <= TORN - sum(life.torn for life in lives):
            kind = "writing"
        begin = ["--resume", str(killed)] if (killed / "config.toml").exists() else []
        arguments = begin or beginning(backend, killed)
        spawn = process if len(lives) in OWN else fork
        lives.append(live_and_die(spawn, arguments, killed, kind, generator, pace))
    steps = newest(killed) + BEATS[backend][0] + 1
    live_on(["--resume", str(killed), "--steps", str(steps)], folder)
    live_on([*beginning(backend, undisturbed), "--steps", str(steps)], folder)
    print(json.dumps({"steps": steps, "lives": [life._asdict() for life in lives]}))


def beginning(backend: str, folder: Path) -> list[str]:
    """Give the arguments that begin a run."""
    checkpoint_every, log_every = BEATS[backend]
    return [
        *("anbn", "--backend", backend, "--model", "rnn", "--units", "4", "--out", str(folder)),
        *("--estimator", "uoro"),
        *("--checkpoint-every", str(checkpoint_every), "--log-every", str(log_every)),
        *("--set", "chunk=10", "--set", "metrics.recent=100"),
    ]


def import_everything(backend: str) -> None:
    """Import what a run imports, so that lives need not; no thread may run after it."""
    import matplotlib

    matplotlib.use("agg")
    for module in ("matplotlib.pyplot", "uoro.cli.app", f"uoro_{backend}", *LATER[backend]):
        importlib.import_module(module)
    threads = len(os.listdir("/proc/self/task"))
    if threads > 1:
        raise SystemExit(f"{threads} threads run: this process is not to be forked")
    # There is no thread of JAX's as yet; it warns of every fork.
    warnings.filterwarnings("ignore", "os.fork", RuntimeWarning)


def live_and_die(
    spawn: Callable[[list[str], Path], int],
    arguments: list[str],
    folder: Path,
    kind: str,
    generator: random.Random,
    pace: Pace,
) -> Life:
    """Have a life begin, and end it."""
    begun = newest(folder)
    first = time.monotonic()
    output = folder.parent / "life.txt"
    process = spawn(arguments, output)

    def wait(until: Callable[[], bool]) -> None:
        while not until():
            if os.waitpid(process, os.WNOHANG)[0]:
                raise SystemExit(f"a life ended by itself:\n{output.read_text()}")
            if time.monotonic() > first + PATIENCE:
                raise SystemExit(f"nothing happened for {PATIENCE:g} s; kind {kind}")
            time.sleep(PAUSE)

    def saved(count: int) -> None:
        for number in range(count):
            began, before = time.monotonic(), newest(folder)

            def more(before: int = before) -> bool:
                return newest(folder) > before

            wait(more)
            now = time.monotonic()
            if number:
                pace.next = now - began
            else:
                pace.first = now - first

    try:
        if kind == "anywhere":
            end = first + generator.uniform(0.0, 1.5 * pace.first)
            wait(lambda: time.monotonic() >= end)
        else:
            saved(generator.randrange(1, 4))
            end = time.monotonic() + generator.uniform(0.0, pace.next)
            wait(lambda: parts(folder) if kind == "writing" else time.monotonic() >= end)
    finally:
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
    return Life(kind, begun, newest(folder), parts(folder), spawn is not fork)


def live_on(arguments: list[str], folder: Path) -> None:
    """Have a life that ends by itself."""
    _, status = os.waitpid(fork(arguments, folder / "life.txt"), 0)
    if os.waitstatus_to_exitcode(status) != 0:
        raise SystemExit(f"exit status {status}:\n{(folder / 'life.txt').read_text()}")


def fork(arguments: list[str], output: Path) -> int:
    """Begin a life of ``uoro train`` in a fork of this process."""
    process = os.fork()
    if not process:
        become(arguments, output)
    return process


def become(arguments: list[str], output: Path) -> NoReturn:
    """Be ``uoro train`` from now on."""
    status: object = 1
    try:
        handle = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        sys.argv = ["uoro", "train", *arguments]
        importlib.import_module("uoro.cli").main()
        status = 0
    except SystemExit as end:
        status = end.code
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status if isinstance(status, int) else 0 if status is None else 1)


def process(arguments: list[str], output: Path) -> int:
    """Begin a life of ``uoro train`` in a process of its own."""
    command = [sys.executable, "-c", "from uoro.cli import main; main()", "train", *arguments]
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    files = [(os.POSIX_SPAWN_OPEN, 1, str(output), flags, 0o666), (os.POSIX_SPAWN_DUP2, 1, 2)]
    return os.posix_spawn(sys.executable, command, os.environ, file_actions=files)


def newest(folder: Path) -> int:
    """Give the step of the newest checkpoint, 0 if there is none."""
    names = list_names(folder)
    return max((int(name[5:17]) for name in names if name.startswith("step-")), default=0)


def parts(folder: Path) -> bool:
    """Say whether there is a checkpoint that is half written."""
    return any(name.endswith(".part") for name in list_names(folder))


def list_names(folder: Path) -> list[str]:
    """List the folder of checkpoints."""
    try:
        return os.listdir(folder / "checkpoints")
    except FileNotFoundError:
        return []


if __name__ == "__main__":
    main()
