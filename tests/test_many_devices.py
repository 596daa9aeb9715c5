"""Streams shared out over devices and over processes: the results of one device, to rounding.

The tests themselves are in `many_devices/`, and run in processes of their own: JAX is told how many
devices to simulate before it starts, and PyTorch's processes are two.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from uoro_jax.compiling import fast_options
from uoro_torch import DistributedStreams

from uoro import UORO
from uoro.errors import SettingError

HERE = Path(__file__).parent

LONGEST = 600
"""How many seconds the tests of a process may take."""


def _start(file: str, **environment: str) -> subprocess.Popen[str]:
    """Start the tests of a file in a process of their own."""
    return subprocess.Popen(
        # Nothing is captured, so that what a framework says before it aborts can be read.
        [sys.executable, "-m", "pytest", "-p", "no:xdist", "-p", "no:cacheprovider", "-q", "-s",
         "--rootdir", str(HERE.parent), str(HERE / "many_devices" / file)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={**os.environ, **environment},
    )  # fmt: skip


def _require_passed(process: subprocess.Popen[str]) -> None:
    said, _ = process.communicate(timeout=LONGEST)
    assert process.returncode == 0, said


def test_streams_on_eight_simulated_jax_devices() -> None:
    flags = (
        "--xla_force_host_platform_device_count=8",
        fast_options(),
        # XLA aborts a process in which devices wait for each other for 40 seconds, as on a machine
        # that has other things to do. What has stopped for good ends at `LONGEST`.
        f"--xla_cpu_collective_call_terminate_timeout_seconds={LONGEST}",
    )
    # To meet, eight devices take a thread each. XLA has no more than those on a small machine, and
    # then one that is busy with anything else keeps all of them waiting.
    environment = {"XLA_FLAGS": " ".join(flags), "JAX_PLATFORMS": "cpu", "PJRT_NPROC": "24"}
    _require_passed(_start("on_eight_jax_devices.py", **environment))


def test_streams_in_two_torch_processes(tmp_path: Path) -> None:
    processes = [
        _start(
            "in_two_torch_processes.py",
            MEETING=str(tmp_path / "meeting"),
            RANK=str(rank),
            WORLD_SIZE="2",
            OMP_NUM_THREADS="1",
        )
        for rank in range(2)
    ]
    try:
        for process in processes:
            _require_passed(process)
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def test_streams_of_no_group_are_refused() -> None:
    with pytest.raises(
        SettingError, match=r"expected a group of processes, got none.*init_process_group"
    ):
        DistributedStreams(UORO(), 2)
