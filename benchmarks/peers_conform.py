"""Public implementations of online gradients, held to the law that the mean is the exact gradient.

    python benchmarks/peers_conform.py               # all; minutes, and some 3 GB of environments
    python benchmarks/peers_conform.py --page        # the page alone, from the files beside it

Each is installed in an environment of its own, with pip, beside this library, and runs on its own
networks (``conform_*.py``). What was found is kept in ``docs/peers/*.json``, from which the page
``docs/peers.md`` is written. One that cannot be installed is named in the page, with the reason.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS, PAGE = ROOT / "docs" / "peers", ROOT / "docs" / "peers.md"

PEERS = {
    "braintrace": ("jax", ["braintrace==0.2.6"]),
    "snntorch": ("torch", ["torch==2.13.0", "snntorch==1.0.0", "numpy>=2"]),
    "spikingjelly": ("torch", ["torch==2.13.0", "spikingjelly==2.0.0", "numpy>=2"]),
}
"""From the name of a peer to the framework that this library takes, and what pip installs."""

PROSE = """\
# Other implementations under the law

Written by `python benchmarks/peers_conform.py`, which installs each public implementation of
online gradients in an environment of its own and runs it on its own small networks, at fixed
parameters, for eight steps.

Of the sum of gradients over the steps, E is the exact one (backpropagation through their network)
and C the one of each step alone, with the state held constant. The *carried part* of a result G is
⟨G − C, E − C⟩ / ‖E − C‖²: 1 if G is E, in the mean if it is random, and 0 if nothing of earlier
steps is carried. *Off* is ‖G − E‖ / ‖E‖, of the mean where G is random, of which the noise of that
mean is a part; truncation would give the number in brackets. *Nothing carried* counts the
parameters of which the carried part is 0 and ought not to be. The verdict is that of the suite's
test by sampling (`check_mean`, δ = 0.25, wrong with probability at most 1e-10) on the carried part
of the whole and of each parameter with a hundredth of its square; a deterministic result *holds*
if no carried part is off by more than 0.001.

The table says what a number is, and not that an approximation is a mistake: most of these
algorithms are approximations and say so. What their documentation says is quoted below the table.
"""

NOTES = {
    "braintrace": 'Algorithms are run step by step with `vjp_method="multi-step"`, which its '
    "documentation names for comparisons with an oracle; four units, in float64. *Saturated* is "
    "`SnAp(n=4)` on four units.",
    "snntorch": "Called with `time_var=False`, at a learning rate of 0; the gradients are those "
    "that it hands to the optimizer. `TBPTT` over all eight steps is checked to be E.",
    "spikingjelly": "E is that of `LIFNode` with the same surrogate, its reset not differentiated. "
    "The input of the first layer comes without a trace, as in its own networks.",
}

NOT_HERE = """\
Not in the table: plasticity rules and evolution strategies, which estimate the gradient of no
loss, or that of another one. UORO written naively on `torch.func`, and the time that each takes,
are in `benchmarks/peers.py` ([speed.md](speed.md)).
"""


def main() -> None:
    """Install, run, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--peer", choices=[*PEERS], action="append", help="one of them; repeat")
    parser.add_argument("--environments", type=Path, default=ROOT / ".peers", help="a folder")
    parser.add_argument("--page", action="store_true", help="write the page alone")
    options = parser.parse_args()
    if not options.page:
        RESULTS.mkdir(exist_ok=True)
        for peer in options.peer or PEERS:
            found = measure(peer, options.environments / peer)
            text = json.dumps(found, indent=1, ensure_ascii=False) + "\n"
            (RESULTS / f"{peer}.json").write_text(text, encoding="utf-8")
            print(f"{peer}: {found.get('reason') or len(found['rows'])}", flush=True)
    PAGE.write_text(page(RESULTS), encoding="utf-8")


def measure(peer: str, folder: Path) -> dict[str, Any]:
    """Install a peer in a folder, and run it; give what it printed, or the reason why not."""
    framework, packages = PEERS[peer]
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
    # First the peer's, of the versions asked for; this library takes those that are there.
    for needed in (packages, [f"{ROOT}[{framework},conformance]", *packages]):
        command = [str(python), "-m", "pip", "install", "--quiet", *needed]
        installed = subprocess.run(command, capture_output=True, text=True, check=False)
        if installed.returncode:
            said = installed.stderr.strip().splitlines() or ["pip failed"]
            return {"packages": packages, "reason": f"not installed: {said[-1]}"}
    script = ROOT / "benchmarks" / f"conform_{peer}.py"
    done = subprocess.run(
        [str(python), str(script)], stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"peers_conform.py: {script.name} ended with exit status {done.returncode}.")
    found: dict[str, Any] = json.loads(done.stdout[done.stdout.index('{\n "versions"') :])
    return found


def page(results: Path) -> str:
    """Write the page from the files of results."""
    found = {
        peer: json.loads((results / f"{peer}.json").read_text(encoding="utf-8")) for peer in PEERS
    }
    lines = [
        PROSE,
        "| library | algorithm | network | runs | carried part | nothing carried | off | verdict |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for peer, result in found.items():
        if "reason" in result:
            lines.append(f"| {peer} | {result['reason']} | | | | | | |")
            continue
        title = f"{peer} {result['versions'][peer]}"
        lines += [_row(title, row) for row in result["rows"]]
    lines.append("")
    for peer, result in found.items():
        if "reason" in result:
            continue
        versions = ", ".join(f"{name} {number}" for name, number in result["versions"].items())
        lines.append(f"**{peer}** ({versions}). {NOTES[peer]}")
        says = {row["algorithm"]: row["says"] for row in result["rows"]}
        lines += [f'- *{algorithm}*: "{said}"' for algorithm, said in says.items()]
        warned = [row["network"] for row in result["rows"] if row.get("warns")]
        if warned:
            networks = " and ".join(dict.fromkeys(warned))
            said = next(row["warns"] for row in result["rows"] if row.get("warns"))
            lines.append(f'- Its compiler\'s warning on {networks}, of the weight `Wr`: "{said}".')
        lines.append("")
    return "\n".join([*lines, NOT_HERE])


def _row(title: str, row: dict[str, Any]) -> str:
    runs, carried, error = row["runs"], row["carried"], row["error"]
    whole = f"{carried['all']:.3f}"
    if runs > 1:
        whole += f" ± {error['all']:.3f}"
    leaves = [part for name, part in carried.items() if name != "all"]
    none = sum(abs(part) < 1e-6 for part in leaves)
    verdict = str(row["verdict"])
    if verdict == "holds":
        verdict = "unbiased" if runs > 1 else "exact"
    if none and row["verdict"] == "holds":
        verdict += ", but for what carries nothing"
    off = f"{row['off']:.1%}" if row["off"] > 1e-6 else f"{row['off']:.0e}"
    cells = [
        title,
        row["algorithm"],
        row["network"],
        f"{runs:,}",
        whole,
        f"{none} of {len(leaves)}",
        f"{off} [{row['share']:.0%}]",
        verdict,
    ]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
