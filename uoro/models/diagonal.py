"""Layers whose units do not move each other within a step: exact gradients are cheap.

`uoro.BlockRTRL` computes the exact gradient of one such layer at the price of `uoro.UORO`. Units
mix in the output of a layer only, which does not reach the state.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from uoro.arguments import require_count
from uoro.errors import spelled
from uoro.models.layers import input_map, read, sigmoid, uniform_bias, uniform_map
from uoro.models.model import Arrays

LEAST, MOST = 0.9, 0.999
"""Range of the initial moduli of the eigenvalues of linear layers."""


@dataclass(frozen=True)
class LRU:
    """A linear recurrent unit, with complex states.

    ``h' = λ ∘ h + γ ∘ (B x)`` with ``λ = exp(-exp(ν) + i exp(φ))``; the output is
    ``y ∘ σ(G y)`` with ``y = Re(C h')``.

    Args:
        units: Number of complex units.

    Raises:
        SettingError: If the number of units is no positive integer.

    References:
        Orvieto et al., "Resurrecting recurrent neural networks for long sequences", ICML 2023,
        arXiv:2303.06349.
    """

    units: int

    def __post_init__(self) -> None:
        require_count(f"LRU(units={spelled(self.units)})", "units", self.units)

    def init(self, generator: np.random.Generator, fan_in: int, *, symbols: bool) -> Arrays:
        """Return random eigenvalues, and random maps of input and output."""
        n = self.units
        return _eigenvalues(generator, n) | {
            "input_real": input_map(generator, n, fan_in, symbols),
            "input_imag": input_map(generator, n, fan_in, symbols),
            "output_real": uniform_map(generator, n, n),
            "output_imag": uniform_map(generator, n, n),
            "gate": uniform_map(generator, n, n),
        }

    def start(self) -> Arrays:
        """Return a complex state of zeros."""
        return {"h": np.zeros(self.units, dtype=np.complex128)}

    def step(
        self, xp: Any, params: Any, state: Any, inputs: Any, *, symbols: bool
    ) -> tuple[Any, Any]:
        """Compute the next state, and the output."""
        size, angle = xp.exp(-xp.exp(params["decay"])), xp.exp(params["phase"])
        rotation = size * xp.cos(angle) + 1j * (size * xp.sin(angle))
        real = read(xp, params["input_real"], inputs, symbols)
        imag = read(xp, params["input_imag"], inputs, symbols)
        h = rotation * state["h"] + xp.exp(params["scale"]) * (real + 1j * imag)
        y = params["output_real"] @ xp.real(h) - params["output_imag"] @ xp.imag(h)
        return {"h": h}, y * sigmoid(xp, params["gate"] @ y)


@dataclass(frozen=True)
class RTU:
    """A recurrent trace unit: a linear rotation, in real numbers.

    ``a' = r cos(φ) a - r sin(φ) b + γ W x`` and ``b' = r sin(φ) a + r cos(φ) b + γ V x``, with
    ``r = exp(-exp(ν))``; the output is ``tanh(P a' + Q b')``.

    Args:
        units: Number of units, each of two numbers.

    Raises:
        SettingError: If the number of units is no positive integer.

    References:
        Elelimy, White, Bowling & White, "Real-time recurrent learning using trace units in
        reinforcement learning", NeurIPS 2024, arXiv:2409.01449.
    """

    units: int

    def __post_init__(self) -> None:
        require_count(f"RTU(units={spelled(self.units)})", "units", self.units)

    def init(self, generator: np.random.Generator, fan_in: int, *, symbols: bool) -> Arrays:
        """Return random rotations, and random maps of input and output."""
        n = self.units
        return _eigenvalues(generator, n) | {
            "input_a": input_map(generator, n, fan_in, symbols),
            "input_b": input_map(generator, n, fan_in, symbols),
            "output_a": uniform_map(generator, n, n),
            "output_b": uniform_map(generator, n, n),
        }

    def start(self) -> Arrays:
        """Return a and b of zeros."""
        return {"a": np.zeros(self.units), "b": np.zeros(self.units)}

    def step(
        self, xp: Any, params: Any, state: Any, inputs: Any, *, symbols: bool
    ) -> tuple[Any, Any]:
        """Compute the next a and b, and the output."""
        size, angle = xp.exp(-xp.exp(params["decay"])), xp.exp(params["phase"])
        cosine, sine, scale = size * xp.cos(angle), size * xp.sin(angle), xp.exp(params["scale"])
        given = [read(xp, params[name], inputs, symbols) for name in ("input_a", "input_b")]
        a = cosine * state["a"] - sine * state["b"] + scale * given[0]
        b = sine * state["a"] + cosine * state["b"] + scale * given[1]
        return {"a": a, "b": b}, xp.tanh(params["output_a"] @ a + params["output_b"] @ b)


@dataclass(frozen=True)
class MinGRU:
    """A gated unit whose gate and candidate see the input alone.

    ``z = σ(E x + b)``, ``h̃ = E x + b``, each with maps of its own, and
    ``h' = (1 - z) ∘ h + z ∘ h̃``; the output is ``tanh(P h')``.

    Args:
        units: Number of units.

    Raises:
        SettingError: If the number of units is no positive integer.

    References:
        Feng, Tung, Ahmed, Bengio & Hajimirsadeghi, "Were RNNs all we needed?", 2024,
        arXiv:2410.01201.
    """

    units: int

    def __post_init__(self) -> None:
        require_count(f"MinGRU(units={spelled(self.units)})", "units", self.units)

    def init(self, generator: np.random.Generator, fan_in: int, *, symbols: bool) -> Arrays:
        """Return random maps and biases; gates start nearly shut, at different rates."""
        n = self.units
        rates = generator.uniform(-6.0, 0.0, n)
        return {
            "input": input_map(generator, 2 * n, fan_in, symbols),
            "bias": np.concatenate([rates, uniform_bias(generator, n, n)]),
            "output": uniform_map(generator, n, n),
        }

    def start(self) -> Arrays:
        """Return a hidden state of zeros."""
        return {"h": np.zeros(self.units)}

    def step(
        self, xp: Any, params: Any, state: Any, inputs: Any, *, symbols: bool
    ) -> tuple[Any, Any]:
        """Compute the next hidden state, and the output."""
        n = self.units
        given = read(xp, params["input"], inputs, symbols) + params["bias"]
        gate = sigmoid(xp, given[:n])
        h = (1.0 - gate) * state["h"] + gate * given[n:]
        return {"h": h}, xp.tanh(params["output"] @ h)


@dataclass(frozen=True)
class ELSTM:
    """An LSTM with element-wise recurrence.

    ``f = σ(E x + w ∘ c + b)``, ``z = tanh(E x + w ∘ c + b)``, each with maps of its own, and
    ``c' = f ∘ c + (1 - f) ∘ z``; the output is ``c' ∘ σ(E x + P c' + b)``.

    Args:
        units: Number of units.

    Raises:
        SettingError: If the number of units is no positive integer.

    References:
        Irie, Gopalakrishnan & Schmidhuber, "Exploring the promise and limits of real-time
        recurrent learning", ICLR 2024, arXiv:2305.19044.
    """

    units: int

    def __post_init__(self) -> None:
        require_count(f"ELSTM(units={spelled(self.units)})", "units", self.units)

    def init(self, generator: np.random.Generator, fan_in: int, *, symbols: bool) -> Arrays:
        """Return random maps, recurrent weights of one number a unit, and biases."""
        n = self.units
        bias = uniform_bias(generator, 3 * n, n)
        bias[:n] += generator.uniform(0.0, 5.0, n)
        return {
            "input": input_map(generator, 3 * n, fan_in, symbols),
            "recurrent": generator.uniform(-1.0, 1.0, 2 * n) / math.sqrt(n),
            "bias": bias,
            "output": uniform_map(generator, n, n),
        }

    def start(self) -> Arrays:
        """Return c of zeros."""
        return {"c": np.zeros(self.units)}

    def step(
        self, xp: Any, params: Any, state: Any, inputs: Any, *, symbols: bool
    ) -> tuple[Any, Any]:
        """Compute the next c, and the output."""
        n, own, c = self.units, params["recurrent"], state["c"]
        given = read(xp, params["input"], inputs, symbols) + params["bias"]
        forget = sigmoid(xp, given[:n] + own[:n] * c)
        c = forget * c + (1.0 - forget) * xp.tanh(given[n : 2 * n] + own[n:] * c)
        return {"c": c}, c * sigmoid(xp, given[2 * n :] + params["output"] @ c)


def _eigenvalues(generator: np.random.Generator, n: int) -> Arrays:
    """Draw eigenvalues of a modulus within `LEAST` and `MOST`, uniform in area, of any angle.

    The scale of the input keeps the variance of a unit at that of its input.
    """
    modulus = np.sqrt(generator.uniform(LEAST**2, MOST**2, n))
    return {
        "decay": np.log(-np.log(modulus)),
        "phase": np.log(generator.uniform(0.01, math.pi, n)),
        "scale": 0.5 * np.log1p(-(modulus**2)),
    }
