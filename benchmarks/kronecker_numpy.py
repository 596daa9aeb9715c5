"""Noise of Kronecker sums of a tanh network, by a program that shares no code with the library's.

The reduction is written after section 3 of Benzing et al. 2019 (arXiv:1902.03993): QR of both sides
and a singular value decomposition, where the library takes roots of inner products. Only the
network and its items come from the library.

python benchmarks/kronecker_numpy.py 0 100000
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from uoro.lab.reproduce.measured_model import MeasuredModel
from uoro.lab.reproduce.paper_tasks import ANBN, network
from uoro.lab.reproduce.plan import ReproductionPlan
from uoro.registry import load_backend

STEPS, SKIPPED, RUNS, UNITS = 90, 30, 8, 64


def trained(seed: int, characters: int) -> tuple[Any, Any]:
    """Train the network by UORO on aⁿbⁿ(1, 32); return its params and the first items."""
    settings = ReproductionPlan().common("float64") | ANBN
    settings |= {"network": network("rnn", UNITS), "seed": seed}
    with load_backend(settings["backend"]).precision("float64"):
        model = MeasuredModel(settings)
        items = model.backend.to_host(model.items(STEPS))
        (params,), _ = model.train([characters], lambda done: None)
        return model.backend.to_host(params), items


def reduced(lefts: Any, rights: Any, generator: np.random.Generator) -> tuple[Any, Any]:
    """Reduce r + 1 terms, (r + 1, n, m) and (r + 1, q), to r: unbiased, at the least variance."""
    count = len(lefts)
    rank = count - 1
    basis, left_root = np.linalg.qr(lefts.reshape(count, -1).T)
    cobasis, right_root = np.linalg.qr(rights.T)
    rotation, values, corotation = np.linalg.svd(left_root @ right_root.T)
    left, right = basis @ rotation, cobasis @ corotation.T
    mixing = np.zeros((left.shape[1], rank)), np.zeros((right.shape[1], rank))
    if len(values) < count or values[-1] <= 1e-14 * values[0]:  # No more than r directions.
        found = min(rank, len(values))
        for side in mixing:
            side[:found, :found] = np.diag(np.sqrt(values[:found]))
    else:
        kept = 0  # The first directions are kept as they are.
        while kept < rank and (rank - kept) * values[kept] > values[kept:].sum():
            kept += 1
        places, rest = rank - kept, values[kept:].sum()
        z = np.sqrt(np.maximum(1 - values[kept:] * places / rest, 0.0))
        complement = np.linalg.svd(z[:, None])[0][:, 1:]
        signs = generator.choice([-1.0, 1.0], (len(z), 1))
        for side in mixing:
            side[:kept, :kept] = np.diag(np.sqrt(values[:kept]))
            side[kept:, kept:] = np.sqrt(rest / places) * signs * complement
    lefts = (left @ mixing[0]).T.reshape((rank, *lefts.shape[1:]))
    return lefts, (right @ mixing[1]).T


def noise(params: Any, items: Any, rank: int) -> float:
    """Compute the relative variance of the gradient over steps 31 to 90 from the zero state."""
    layer, readout = params["0"], params["readout"]
    table, recurrent, bias = layer["input"], layer["recurrent"], layer["bias"]
    n, letters = len(bias), len(table)
    generator, unit = np.random.default_rng(0), np.eye(n)
    h = np.zeros(n)
    influence: dict[str, Any] = {"bias": np.zeros((n, n))}
    influence |= {"input": np.zeros((n, n, letters)), "recurrent": np.zeros((n, n, n))}
    empty = {name: (np.zeros((rank, n, n)), np.zeros((rank, influence[name].shape[2])))
             for name in ("input", "recurrent")}  # fmt: skip
    carried = [dict(empty) for _ in range(RUNS)]
    errors = squares = 0.0
    for step, (symbol, target) in enumerate(zip(items["symbol"], items["target"], strict=True)):
        read = {"input": np.eye(letters)[symbol], "recurrent": np.tanh(h)}
        following = table[symbol] + recurrent @ read["recurrent"] + bias
        signal = np.tanh(following)
        logits = readout["map"] @ signal + readout["bias"]
        delta = np.exp(logits - logits.max())
        delta = delta / delta.sum() - np.eye(letters)[target]
        by_next = readout["map"].T @ delta * (1 - signal**2)
        jacobian = recurrent * (1 - read["recurrent"] ** 2)
        influence["bias"] = jacobian @ influence["bias"] + unit
        for name, a in read.items():  # Here D is the identity.
            pushed = np.einsum("kl,lij->kij", jacobian, influence[name])
            influence[name] = pushed + unit[:, :, None] * a
        exact = {name: np.tensordot(by_next, rows, 1) for name, rows in influence.items()}
        if step >= SKIPPED:
            of_readout = (np.outer(delta, signal) ** 2).sum() + (delta**2).sum()
            squares += sum((part**2).sum() for part in exact.values()) + of_readout
        for terms in carried:
            for name, a in read.items():
                lefts, rights = terms[name]
                lefts = np.einsum("kl,rlj->rkj", jacobian, lefts)
                estimate = np.einsum("k,rkj,rq->jq", by_next, lefts, rights) + np.outer(by_next, a)
                if step >= SKIPPED:
                    errors += ((estimate - exact[name]) ** 2).sum() / RUNS
                more = np.concatenate([lefts, unit[None]]), np.concatenate([rights, a[None]])
                terms[name] = reduced(*more, generator)
        h = following
    return float(errors / squares)


if __name__ == "__main__":
    held, stream = trained(int(sys.argv[1]), int(sys.argv[2]))
    for terms in (1, 2, 3):
        print(f"seed {sys.argv[1]}, {sys.argv[2]} characters, rank {terms}: "
              f"{noise(held, stream, terms):.2g}", flush=True)  # fmt: skip
