"""`Learner.predict` and `Learner.learn`: outputs now, losses when they are known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from uoro import (
    RTRL,
    SGD,
    UORO,
    Adam,
    Backend,
    JointUORO,
    Learner,
    RollingTruncated,
    Streams,
    TruncatedBPTT,
    load_backend,
)
from uoro.checkpoint import load_learner, save_learner
from uoro.errors import NonFiniteError, SettingError, StructureError

UNITS, STEPS = 3, 6


def cell(backend: Backend) -> Callable[..., Any]:
    """Return a cell whose output has two leaves."""
    xp = backend.xp

    def transition(params: Any, state: Any, x: Any) -> Any:
        state = xp.tanh(params["W"] @ state + params["u"] * x)
        return state, {"mean": params["c"] @ state, "pair": (state * params["u"],)}

    return transition


def loss_on(backend: Backend) -> Callable[[Any, Any], Any]:
    xp = backend.xp

    def loss(output: Any, target: Any) -> Any:
        return (output["mean"] - target) ** 2 + 0.1 * xp.sum(output["pair"][0] ** 2) * target

    return loss


def params_on(backend: Backend) -> Any:
    generator = np.random.default_rng(0)
    shapes: dict[str, Any] = {"W": (UNITS, UNITS), "u": UNITS, "c": UNITS}
    return backend.from_host({name: generator.normal(size=s) for name, s in shapes.items()})


def items(*batch: int) -> list[tuple[Any, Any]]:
    generator = np.random.default_rng(1)
    return [(generator.normal(size=batch), generator.normal(size=batch)) for _ in range(STEPS)]


def apart(backend: Backend, estimator: Any, optimizer: Any = None, *batch: int, **more: Any) -> Any:
    """Return a learner that predicts, and learns when the target is known."""
    return Learner(
        backend.dynamics(cell(backend)),
        estimator,
        SGD(0.1) if optimizer is None else optimizer,
        params_on(backend),
        backend.from_host(np.zeros((*batch, UNITS))),
        loss=loss_on(backend),
        **more,
    )


def whole(backend: Backend, estimator: Any, optimizer: Any = None, *batch: int) -> Any:
    """Return a learner whose transition returns the same loss."""
    step, loss = cell(backend), loss_on(backend)

    def transition(params: Any, state: Any, item: Any) -> Any:
        state, output = step(params, state, item[0])
        return state, loss(output, item[1])

    return Learner(
        backend.dynamics(transition),
        estimator,
        SGD(0.1) if optimizer is None else optimizer,
        params_on(backend),
        backend.from_host(np.zeros((*batch, UNITS))),
    )


def close(backend: Backend, one: Any, two: Any) -> None:
    for (name, a), (_, b) in zip(
        *(backend.named_leaves(backend.to_host(tree)) for tree in (one, two)), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12, err_msg=name)


@pytest.mark.parametrize(
    ("estimator", "batch"),
    [
        (UORO(2), ()),
        (RTRL(), ()),
        (JointUORO(2), ()),
        (RollingTruncated(2), ()),
        (Streams(UORO(), 2), (2,)),
    ],
    ids=["rank 2", "RTRL", "joint", "rolling", "streams"],
)
def test_predict_and_learn_are_step(backend: Backend, estimator: Any, batch: Any) -> None:
    ours = apart(backend, estimator, Adam(0.05), *batch)
    theirs = whole(backend, estimator, Adam(0.05), *batch)
    for x, target in items(*batch):
        output = ours.predict(x)
        assert set(output) == {"mean", "pair"}
        assert ours.waiting == 1
        got, expected = ours.learn(target), theirs.step((x, target))
        assert ours.waiting == 0
        assert ours.steps == theirs.steps
        close(backend, (got.loss, got.gradient), (expected.loss, expected.gradient))
        close(backend, (ours.params, ours.state), (theirs.params, theirs.state))


def test_late_targets_are_learned_in_order_at_the_params_of_their_step(backend: Backend) -> None:
    """The oracle: RTRL is exact, so by hand, with the params of the time, from its own carry."""
    ours = apart(backend, RTRL())
    estimator, model = RTRL(), backend.dynamics(cell(backend))
    judged = backend.dynamics(lambda o, s, t: (s, loss_on(backend)(o, t)), check=False)
    params, state = params_on(backend), backend.from_host(np.zeros(UNITS))
    carry = estimator.init(model, params, state)
    seen: list[Any] = []
    for number, (x, _) in enumerate(items()):
        ours.predict(x)
        x = backend.from_host(x)
        carry_after, state_after, made = estimator.advance(model, params, carry, state, x, None)
        seen.append((params, made))
        carry, state = carry_after, state_after
        if number >= 2:
            target = backend.from_host(items()[number - 2][1])
            estimate = ours.learn(target)
            _, made = seen[number - 2]
            _, pull = judged.vjp(made.output, (), target)
            gradient = made.gradient(pull(None, 1.0)[0])
            close(backend, estimate.gradient, gradient)
            params = backend.combine((1.0, params), (-0.1, gradient))
            close(backend, ours.params, params)
    assert ours.waiting == 2
    ours.forget(1)
    assert ours.waiting == 1
    ours.forget()
    assert ours.waiting == 0


def test_an_optimizer_in_place_leaves_waiting_predictions_right() -> None:
    import torch
    from uoro_torch import TorchOptimizer

    backend = load_backend("torch")
    with backend.precision("float64"):
        params = params_on(backend)
        for leaf in params.values():
            leaf.requires_grad_()
        optimizer = TorchOptimizer(torch.optim.SGD(params.values(), lr=0.1))
        step = backend.dynamics(cell(backend))
        ours = Learner(
            step, RTRL(), optimizer, params, torch.zeros(UNITS).double(), loss=loss_on(backend)
        )
        pure = apart(backend, RTRL())
        for number, (x, _) in enumerate(items()):
            for learner in (ours, pure):
                learner.predict(x)
            if number >= 2:
                got, expected = (each.learn(items()[number - 2][1]) for each in (ours, pure))
                close(backend, got.gradient, expected.gradient)
        close(backend, {k: v.detach() for k, v in ours.params.items()}, pure.params)


def test_a_chunk_of_truncated_bptt_gets_stacks() -> None:
    backend = load_backend("autograd")
    loss, step = loss_on(backend), cell(backend)

    def total(outputs: Any, targets: Any) -> Any:
        return sum(
            loss({"mean": outputs["mean"][i], "pair": (outputs["pair"][0][i],)}, targets[i])
            for i in range(3)
        )

    ours = Learner(backend.dynamics(step), TruncatedBPTT(3), SGD(0.1), params_on(backend),
                   np.zeros(UNITS), loss=total)  # fmt: skip
    theirs = whole(backend, TruncatedBPTT(3))
    stream = items()
    xs, targets = (np.stack(part[:3]) for part in zip(*stream, strict=True))
    ours.predict(xs)
    close(backend, ours.learn(targets).gradient, theirs.step((xs, targets)).gradient)


def test_checkpoints_and_runs_between(tmp_path: Any) -> None:
    backend = load_backend("autograd")
    ours, twin = apart(backend, UORO()), apart(backend, UORO())
    for x, target in items():
        ours.predict(x)
        ours.learn(target)
    save_learner(tmp_path / "learner", ours)
    twin.predict(0.5)
    load_learner(tmp_path / "learner", twin)
    assert twin.waiting == 0
    for learner in (ours, twin):
        learner.predict(0.3)
        learner.learn(0.1)
    close(backend, (ours.params, ours.carry), (twin.params, twin.carry))
    ours.predict(0.1)
    with pytest.raises(SettingError, match=r"Learner\.export.*no waiting prediction, got 1"):
        ours.export()


@pytest.mark.parametrize("name", ["autograd", "jax"])
def test_losses_that_are_not_finite(name: str) -> None:
    backend = load_backend(name)
    stops, skips = apart(backend, UORO()), apart(backend, UORO(), on_nonfinite="skip")
    resets = apart(backend, UORO(), on_nonfinite="reset")
    for learner in (stops, skips, resets):
        learner.predict(0.1)
        learner.predict(0.2)
    before = stops.params
    with np.errstate(all="ignore"):
        with pytest.raises(NonFiniteError, match="the loss is nan at step 0"):
            stops.learn(np.nan)
        for learner in (skips, resets):
            learner.learn(np.nan)
    assert stops.params is before
    assert stops.waiting == 2
    assert (skips.waiting, skips.skipped, resets.resets, resets.skipped) == (1, 1, 1, 1)
    stops.learn(0.1)
    skips.learn(0.1)


def test_bad_input_is_refused() -> None:
    backend = load_backend("autograd")
    learner = apart(backend, UORO())
    with pytest.raises(StructureError, match="expected a prediction to learn from, got none"):
        learner.learn(1.0)
    learner.predict(0.1)
    learner.learn(1.0)
    with pytest.raises(StructureError, match="Call predict"):
        learner.learn(1.0)
    with pytest.raises(SettingError, match="count: expected at most all that wait, got 1 of 0"):
        learner.forget(1)
    with pytest.raises(SettingError, match="count"):
        learner.forget(-1)
    with pytest.raises(SettingError, match="loss: expected a function"):
        Learner(learner.dynamics, UORO(), SGD(0.1), learner.params, learner.state, loss=3)  # type: ignore[arg-type]
    silent = Learner(learner.dynamics, UORO(), SGD(0.1), learner.params, learner.state)
    silent.predict(0.1)
    with pytest.raises(SettingError, match="a learner with a loss, got loss=None"):
        silent.learn(1.0)
    with pytest.raises(StructureError, match="For an output that is no loss"):
        silent.step(0.1)
    donating = apart(backend, UORO(), donate=True)
    with pytest.raises(SettingError, match="donate=True"):
        donating.predict(0.1)
    vague = Learner(learner.dynamics, UORO(), SGD(0.1), learner.params, learner.state,
                    loss=lambda output, target: output["pair"][0])  # fmt: skip
    vague.predict(0.1)
    with pytest.raises(StructureError, match="a scalar array"):
        vague.learn(1.0)
