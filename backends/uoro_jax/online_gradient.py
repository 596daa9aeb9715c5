"""An online gradient as pure functions, of which one is for JAX to differentiate."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from uoro.arguments import mismatch
from uoro.dynamics import Dynamics
from uoro.errors import SettingError, StructureError, spelled
from uoro.estimator import Estimate, Estimator
from uoro.estimators.auto import Auto
from uoro.estimators.chosen import Chosen, chosen_for, described, is_auto
from uoro.prediction import Prediction, predicting
from uoro_jax import rule
from uoro_jax.faults import (
    Carry,
    Faults,
    OnNonfinite,
    judge,
    masked,
    masked_unless_finite,
    require_finite,
)
from uoro_jax.pullback import Form, Pullback
from uoro_jax.trees import require_arrays


@dataclass(frozen=True)
class OnlineGradient:
    """The pure functions of one model and one estimator, built by `online`.

    All work under `jax.jit`, `jax.lax.scan`, and `jax.vmap` over streams.

    Attributes:
        dynamics: The model. ``dynamics.describe()`` says how the model is differentiated.
        estimator: The estimator, or an `uoro.estimators.Auto` in its place.
        on_nonfinite: What happens at a step that is not finite; see `online`.
    """

    dynamics: Dynamics[Any, Any, Any]
    estimator: Estimator | Auto
    on_nonfinite: OnNonfinite = "raise"
    _chosen: dict[Chosen, OnlineGradient] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def describe(self) -> str:
        """Return how the model is differentiated, and by which estimator, chosen for what reason.

        Before the first step neither is known whole.
        """
        return described(self.dynamics, self.estimator, *self._chosen)

    def init(self, params: Any, state: Any, *, item: Any = None) -> Carry:
        """Return the carry of a run that starts at ``state``.

        Args:
            params: Parameters, a pytree of floating or complex arrays.
            state: Initial hidden state, a pytree of arrays; a stack of B for `uoro.Streams`.
            item: Item of the stream, for estimators that need one: `uoro.RollingTruncated`, and
                those that look for the structure of the model, such as `uoro.KroneckerSum`; and for
                ``"auto"``, which chooses by it.

        Raises:
            SettingError: If the estimator is to be chosen, and there is no item.
            StructureError: If a leaf of params or state is no array.
        """
        for name, tree in (("params", params), ("state", state)):
            require_arrays(f"OnlineGradient.init({name}=...)", tree)
        params, state = jax.tree.map(jnp.asarray, (params, state))
        estimator: Any = self._of(params, state, item).estimator
        influence = estimator.init(self.dynamics, params, state, inputs=item)
        return Carry(state, influence, Faults.none(self.on_nonfinite))

    def check(self, carry: Carry, losses: Any = None) -> None:
        """Raise if what a compiled run returned is not finite; call it between two runs.

        Args:
            carry: Carry of the last step. It is waited for.
            losses: Losses of the run, to name the first step that was not finite.

        Raises:
            NonFiniteError: If a loss, the state or the influence estimate is not finite.
        """
        require_finite(carry, losses)

    def __call__(self, params: Any, carry: Carry, item: Any, key: Any) -> tuple[Carry, Any]:
        """Run the model on one item; `jax.grad` of any loss of the output is the online gradient.

        The derivative of the output by ``params`` is the estimate, and that of a loss of several
        outputs the sum of their estimates. By definition, every other derivative is zero: that of
        the next carry, and those by ``carry``, ``item`` and ``key``. To train an encoder of the
        item, put the encoder into the transition. Differentiate step by step: the derivative of a
        whole scan keeps the carry of every step.

        Args:
            params: Parameters.
            carry: Carry of the previous step, or of `init`.
            item: Item of the stream, third argument of the transition.
            key: PRNG key of this step. Reusing a key at another step biases the gradient. Without
                effect for an estimator that draws nothing, such as `uoro.RTRL`.

        Returns:
            The next carry and the output. If the transition returns a third element, the output is
            the pair ``(output, aux)``.

        Raises:
            DerivativeError: At the first step, if the model cannot be differentiated.
            StructureError: If ``carry`` is no `Carry`, ``key`` is no key, or the estimator needs
                the loss within its step.
        """
        self._require("__call__", carry)
        core = self._of(params, carry.state, item)
        signs = core._draw("__call__", key, carry.state)
        taken: Any = rule.predict(core._advance, params, carry, item, signs)
        carry, output, aux = taken
        return carry, output if aux is None else (output, aux)

    def predict(
        self, params: Any, carry: Carry, item: Any, key: Any
    ) -> tuple[Carry, Any, Pullback]:
        """Run the model on one item, whose loss comes later.

        Args:
            params: Parameters.
            carry: Carry of the previous step, or of `init`.
            item: Item of the stream, third argument of the transition.
            key: PRNG key of this step.

        Returns:
            The next carry, the output as from calling the object, and a `Pullback`: a pytree, and a
            function from the cotangent of the output to the gradient. To have one in the carry of
            a scan before its first step, fill the structure that `jax.eval_shape` finds with zeros:
            its gradient is zero at a cotangent of zero.

        Raises:
            DerivativeError: At the first step, if the model cannot be differentiated; or if JAX
                differentiates it by ``params``.
            StructureError: As when calling the object.
        """
        self._require("predict", carry)
        params = rule.without_derivative("OnlineGradient.predict", params)
        core = self._of(params, carry.state, item)
        signs = core._draw("predict", key, carry.state)
        after, prediction = core._advance(params, carry, item, signs)
        output, aux = prediction.output, prediction.aux
        pullback = Pullback(params, carry, item, core._gradient, Form.of(output))
        return after, output if aux is None else (output, aux), pullback

    def step(self, params: Any, carry: Carry, item: Any, key: Any) -> tuple[Carry, Estimate]:
        """Run the model on one item, and estimate the gradient of the loss that it returns.

        Args:
            params: Parameters.
            carry: Carry of the previous step, or of `init`.
            item: Item of the stream, third argument of the transition.
            key: PRNG key of this step. Reusing a key at another step biases the gradient.

        Returns:
            The next carry, and an `Estimate` with the loss, the gradient (shaped like ``params``)
            and the transition's third output, if any.

        Raises:
            DerivativeError: At the first step, if the model cannot be differentiated; or if JAX
                differentiates it by ``params``.
            StructureError: If ``carry`` was not returned by `init` or `step`, ``key`` is no key, or
                the transition returns no loss.
        """
        self._require("step", carry)
        params = rule.without_derivative("OnlineGradient.step", params)
        core = self._of(params, carry.state, item)
        estimator: Any = core.estimator
        signs = core._draw("step", key, carry.state)
        influence, state, estimate = estimator.step(
            self.dynamics, params, carry.influence, carry.state, item, signs
        )
        after = Carry(state, influence)
        call = "OnlineGradient.step"
        after, counts = judge(self.on_nonfinite, call, carry, after, estimate[:2])
        return after, estimate._replace(gradient=masked(counts, estimate.gradient))

    def _advance(
        self, params: Any, carry: Carry, item: Any, signs: Any
    ) -> tuple[Carry, Prediction]:
        influence, state, prediction = self._predicting().advance(
            self.dynamics, params, carry.influence, carry.state, item, signs
        )
        after = Carry(state, influence)
        after, counts = judge(self.on_nonfinite, "OnlineGradient(...)", carry, after, ())
        pull = prediction.pull
        prediction.pull = lambda given: masked(counts, self._whole(pull(given)))
        return after, prediction

    def _whole(self, gradient: Any) -> Any:
        return masked_unless_finite(self.on_nonfinite, gradient)

    def _gradient(self, params: Any, carry: Carry, item: Any, cotangent: Any) -> Any:
        gradient = self._predicting().gradient(
            self.dynamics, params, carry.influence, carry.state, item, cotangent
        )
        return self._whole(gradient)

    def _predicting(self) -> Any:
        estimator: Any = self.estimator
        return predicting(estimator, "online(transition, estimator)")

    def _of(self, params: Any, state: Any, item: Any) -> OnlineGradient:
        """Return the functions of an estimator: these, or those of the one that fits the shapes.

        Equal choices have the same functions, which JAX compares by identity.
        """
        if not is_auto(self.estimator):
            return self
        if item is None:
            raise SettingError(
                "OnlineGradient.init(params, state, item=...): expected an item of the stream, by "
                "which estimator='auto' chooses, got none. Try init(params, state, item=x), or an "
                "estimator by name: online(transition, UORO())."
            )
        estimator, chosen = chosen_for(self.estimator, self.dynamics, params, state, item)
        return self._chosen.setdefault(chosen, replace(self, estimator=estimator))

    def _require(self, method: str, carry: Any) -> None:
        if not isinstance(carry, Carry):
            hint = "Build it with init(params, state), and pass on what step returns."
            call, expected = f"OnlineGradient.{method}(carry=...)", "a uoro_jax.Carry"
            raise StructureError(mismatch(call, "", expected, spelled(carry), hint))

    def _draw(self, method: str, key: Any, state: Any) -> Any:
        estimator: Any = self.estimator
        try:
            return estimator.draw(partial(self.dynamics.backend.random, key), state)
        except (TypeError, ValueError) as error:
            call = f"OnlineGradient.{method}(key=...)"
            got, expected = f"{spelled(key)} ({error})", "a PRNG key, such as jax.random.key(0)"
            raise StructureError(mismatch(call, "", expected, got)) from error
