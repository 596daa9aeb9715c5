"""What is looked at after every step of an `Online`: nothing ruins a run without a word."""

from __future__ import annotations

import warnings
from copy import copy, deepcopy
from typing import Any, Literal, TypeAlias, get_args

import optree
import torch
from torch import Tensor

from uoro.arguments import require_choice
from uoro.backend import Backend
from uoro.errors import DivergenceWarning, NonFiniteError, SettingError, UOROWarning
from uoro.estimator import Estimate, Estimator
from uoro.learning.carry import Progress
from uoro.learning.divergence import LOSS as LOSS_GROWTH
from uoro.learning.divergence import PAIR, WINDOW, Alarm
from uoro.learning.nonfinite import GRADIENT, LOSS, Fault, NonfinitePolicy, cause_of
from uoro.learning.update import Update
from uoro_torch.clearing import Clearing
from uoro_torch.distributed import DistributedStreams
from uoro_torch.finite import Finite, first_unfinite, size_of
from uoro_torch.gradients import in_memory_of_their_own
from uoro_torch.guards import require_fresh
from uoro_torch.running import Running
from uoro_torch.trees import differentiable_leaves

OnNonfinite: TypeAlias = Literal["raise", "skip", "reset"]
STATE = "the norm of the next hidden state"
PATIENCE = 1000
"""Number of steps in a row without a backward pass after which a warning is due."""
_HELD = "State, carry and .grad are as they were before the step."
_WAY_OUT = (
    "training diverges, or the stream has changed. Try a smaller learning rate, clip_grad_norm_, "
    "or reset()."
)


class Watch:
    """Look at a step: is it finite, does it diverge, is its state the one of the step before?

    Args:
        choice: What to do with a step that is not finite; see `uoro_torch.Online`.
        estimator: Estimator of the steps.
        initial: Hidden state to start from where the present one is not finite.

    Raises:
        SettingError: If the choice is none of the three, or one that processes cannot make alone.

    Attributes:
        policy: Counts what is skipped and reset.
    """

    def __init__(self, choice: OnNonfinite, estimator: Estimator, initial: Any) -> None:
        call = "Online(on_nonfinite=...)"
        require_choice(call, "on_nonfinite", choice, get_args(OnNonfinite))
        self._several = isinstance(estimator, DistributedStreams)
        if choice != "raise" and self._several:
            raise SettingError(
                f"{call}: expected 'raise' with DistributedStreams, got {choice!r}; a process that "
                "skips alone would leave the others waiting. Leave it out."
            )
        stop = "stop" if choice == "raise" else choice
        self.policy = NonfinitePolicy(stop, initial, held=_HELD)
        self._losses, self._returned = Alarm(LOSS_GROWTH, WINDOW), Alarm(LOSS_GROWTH, WINDOW)
        self._pairs, self._finite = Alarm(PAIR), Finite()
        self._restart = self._warned = False
        self._unpulled = 0
        self._clearing = Clearing()
        self._left: tuple[Any, Any, list[int]] | None = None

    def __deepcopy__(self, memo: Any) -> Watch:
        """Return a copy that has seen no state: copied tensors count their changes anew."""
        made = copy(self)
        memo[id(self)] = made
        made._left = None
        for name in ("policy", "_losses", "_returned", "_pairs", "_finite", "_clearing"):
            setattr(made, name, deepcopy(getattr(self, name), memo))
        return made

    def before(self, now: Running, backend: Backend) -> None:
        """Look at the state that a step begins with, and warn if it is not that of the last."""
        if self._restart:
            self._restart, now.carry = False, None
        carry = now.carry
        if self._left is None or carry is not self._left[1] or carry is None or carry == ():
            return
        state, _, versions = self._left
        if now.state is state and _versions(state) == versions:
            return
        require_fresh(backend, now.state, now.initial, call="Online.state = ...")
        if now.state is state or not _equal(now.state, state):
            _warn(
                "Online.step(...): expected the hidden state that the last step returned, got one "
                "that was set by hand, or changed in place, beside a live influence estimate, "
                "which is of the state before. Call online.reset(state=...) to start anew."
            )

    def look(self, made: Any, before: Any, after: Any) -> tuple[float | None, Fault | None]:
        """Return the loss of a step, if it is known, and what is not finite in the step.

        Args:
            made: Its estimate, or its prediction.
            before: Hidden state before it.
            after: Hidden state after it.
        """
        loss: float | None = None
        if isinstance(made, Estimate):
            loss = float(made.loss)
            if loss - loss != 0.0:
                return loss, (LOSS, loss)
            # Cloned where they are views: they are looked at here, and added to ``.grad`` after.
            gradients = in_memory_of_their_own(list(made.gradient.values()))
            made.gradient.update(zip(made.gradient, gradients, strict=True))
            if not self._finite(gradients):
                return loss, (GRADIENT, first_unfinite(gradients))
            if self._several:  # The state is that of this process alone.
                return loss, None
        found = self._finite.lost(before, after)
        return loss, None if found is None else (STATE, found)

    def refuse(self, now: Running, backend: Backend, call: str, fault: Fault, item: Any) -> None:
        """Raise for a step that is not finite, or count it as skipped.

        Raises:
            NonFiniteError: If the choice is to raise, or skipping cannot help.
        """
        policy = self.policy
        policy.call = call
        policy.skip(backend, _progress(now), fault, now.steps, cause_of(backend, item, fault))
        self._say_once(f"{call}: {fault[0]} is {fault[1]} at step {now.steps}: skipped")

    def reset(self, now: Running, update: Update, call: str, fault: Fault, item: Any) -> None:
        """Start with the initial carry, and with the initial state where it must be."""
        fresh = self.policy.reset(update, _progress(now), item, fault, now.steps)
        now.carry, now.state = fresh.carry, fresh.state
        self._say_once(f"{call}: {fault[0]} is {fault[1]} at step {now.steps}: reset")

    def taken(self, now: Running, loss: float | None) -> None:
        """Note a step that was taken, and warn if the loss or the influence estimate diverges."""
        self.policy.skipped_in_a_row = 0
        self._left = now.state, now.carry, _versions(now.state)
        if loss is not None:
            growth = self._losses.add(loss)
            if growth is not None:
                _warn_of_growth(f"the loss of the last {WINDOW} steps", growth, _WAY_OUT)
        if now.steps % WINDOW == 0:
            size = size_of(now.carry)
            growth = None if size is None else self._pairs.add(size)
            if growth is not None:
                _warn_of_growth(
                    "the norm of the influence estimate",
                    growth,
                    "a hidden state that does not forget makes it grow. Try a smaller learning "
                    "rate, or reset().",
                )

    def adds(self, params: dict[str, Tensor], fused: int) -> None:
        """Note that a gradient is added to ``.grad``, and warn if none is cleared or used."""
        self._clearing.look(params, fused)

    def waits(self) -> None:
        """Note an output that waits for its backward pass, and warn if none ever gets one."""
        self._unpulled += 1
        if self._unpulled == PATIENCE:
            _warn(
                f"online(x): expected a backward pass through the outputs, got {PATIENCE} steps "
                "without one: the parameters of the model do not learn. Call loss.backward() on a "
                "loss of the output, not of output.detach(), or step under torch.no_grad()."
            )

    def pulled(
        self, gradients: list[Tensor | None], cotangents: list[Tensor], step: int, *, scaled: bool
    ) -> bool:
        """Look at the gradients of a backward pass, and return whether they are to be added.

        Args:
            gradients: Gradient of each parameter that needs one.
            cotangents: Derivative of the loss by each leaf of the output.
            step: Index of the step.
            scaled: Whether the step ran under autocast, where a scaler looks after overflow.

        Raises:
            NonFiniteError: If they are not finite, and the choice is to raise.
        """
        self._unpulled = 0
        known = [gradient for gradient in gradients if gradient is not None]
        if scaled or self._finite(known):
            growth = self._returned.add(sum(map(float, map(torch.linalg.vector_norm, cotangents))))
            if growth is not None:
                what = f"what the losses of the last {WINDOW} steps send back"
                _warn_of_growth(what, growth, _WAY_OUT)
            return True
        value = first_unfinite(known)
        sent = any(not bool(each.isfinite().all()) for each in cotangents)
        call, policy = "loss.backward()", self.policy
        if policy.choice == "stop":
            hint = "The loss is not finite: check the target." if sent else None
            held = "Nothing was added to .grad of the model; state and carry are those after it."
            raise NonFiniteError(call, step, GRADIENT, value, held=held, hint=hint)
        if policy.choice == "reset" and not sent:
            self._restart = True
            policy.resets += 1
        policy.skipped += 1
        self._say_once(
            f"{call}: {GRADIENT} is {value} at step {step}: skipped. Layers after the model get "
            "what the loss sends: step the optimizer only if loss.isfinite()"
        )
        return False

    def _say_once(self, what: str) -> None:
        if not self._warned:
            counted = "Further ones are counted in online.skipped and online.resets, and logged."
            _warn(f"{what}. {counted}", above=6)
        self._warned = True


def _progress(now: Running) -> Progress:
    return Progress(now.params, now.state, now.carry, None)


class Watched:
    """What `Online` counts of the steps that were not finite."""

    _watch: Watch

    @property
    def skipped(self) -> int:
        """Number of steps skipped because of ``on_nonfinite``."""
        return self._watch.policy.skipped

    @property
    def resets(self) -> int:
        """Number of resets because of ``on_nonfinite``."""
        return self._watch.policy.resets


def _warn(message: str, *, above: int = 5) -> None:
    warnings.warn(message, UOROWarning, stacklevel=above)


def _warn_of_growth(what: str, growth: float, hint: str) -> None:
    warnings.warn(
        f"Online: {what} is {growth:.3g} times its running median: {hint}",
        DivergenceWarning,
        stacklevel=5,
    )


def _versions(state: Any) -> list[int]:
    """Return how often each tensor changed in place; nothing for those that do not count."""
    leaves = [state] if isinstance(state, Tensor) else optree.tree_leaves(state)
    return [leaf._version for leaf in leaves if not leaf.is_inference()]


def _equal(one: Any, other: Any) -> bool:
    pair: Any = (one, other)
    if optree.tree_structure(pair[0]) != optree.tree_structure(pair[1]):
        return False
    leaves = zip(differentiable_leaves(one), differentiable_leaves(other), strict=True)
    return all(a.shape == b.shape and bool(torch.equal(a, b)) for a, b in leaves)
