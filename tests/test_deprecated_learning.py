"""Old spellings of learners and optimizers work, and their warnings name the new ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from systems import TINY_MODELS, build, entries, make_items

import uoro
from uoro import SGD, UORO, Adam, Backend, Clipped, Learner, load_backend
from uoro.lab.replicas import Replicas
from uoro.learning.windows import Windows


@pytest.mark.parametrize(
    ("old", "new"),
    [("beta1", "b1"), ("beta2", "b2"), ("epsilon", "eps"), ("rate", "learning_rate")],
)
def test_old_keywords_of_adam(old: str, new: str) -> None:
    given: dict[str, Any] = {"learning_rate": 0.5, new: 0.25}
    called: dict[str, Any] = {old: 0.25} | ({} if old == "rate" else {"learning_rate": 0.5})
    with pytest.warns(DeprecationWarning, match=rf"Adam\({old}=\.\.\.\).*Adam\({new}=\.\.\.\)"):
        assert Adam(**called) == Adam(**given)


def test_positional_decays_of_adam() -> None:
    old: Any = Adam
    with pytest.warns(DeprecationWarning, match=r"positional b[12].*Adam\(b[12]=\.\.\.\)"):
        assert old(0.1, 0.5, 0.25) == Adam(0.1, b1=0.5, b2=0.25)
    with pytest.raises(TypeError), pytest.warns(DeprecationWarning, match="positional"):
        old(0.1, 0.5, 0.25, 1e-8, 3.0)


def test_old_keyword_of_sgd() -> None:
    old: Any = SGD
    with pytest.warns(DeprecationWarning, match=r"SGD\(learning_rate=\.\.\.\)"):
        assert old(rate=0.1) == SGD(0.1)
    with pytest.raises(TypeError, match="rate"):
        old(rate=0.1, learning_rate=0.1)


def test_a_stream_of_signs_under_its_old_keyword() -> None:
    backend = load_backend("autograd")
    dynamics, params, state = build(backend, TINY_MODELS["linear"])
    old: Any = Learner
    with pytest.warns(DeprecationWarning, match=r"Learner\(signs=\.\.\.\)"):
        old(dynamics, UORO(), SGD(0.1), params, state, noise=iter([]))


def test_windows_are_found_at_their_old_place() -> None:
    with pytest.warns(DeprecationWarning, match=r"learner\.run\(stream\)"):
        assert uoro.Windows is Windows  # type: ignore[attr-defined]  # found by __getattr__


class ParamsBeforeGradient:
    """An optimizer as one wrote it before: SGD at the rate 0.1."""

    def init(self, backend: Backend, params: Any) -> tuple[()]:
        return ()

    def update(
        self, backend: Backend, params: Any, gradient: Any, memory: Any, time: Any
    ) -> tuple[Any, Any]:
        return backend.combine((1.0, params), (-0.1, gradient)), memory


def test_an_optimizer_that_takes_the_params_first_is_adapted(backend: Backend) -> None:
    dynamics, params, state = build(backend, TINY_MODELS["linear"])
    items = entries(backend, make_items(5), 5)
    old: Any = ParamsBeforeGradient()
    expected = Learner(dynamics, UORO(), SGD(0.1), params, state)
    message = r"update\(backend, gradient, opt_state, params, time\)"
    with pytest.warns(DeprecationWarning, match=message) as caught:
        learner = Learner(dynamics, UORO(), old, params, state)
    assert caught[0].filename == __file__, "the warning points to the user's line"
    assert learner.run(items) == expected.run(items)
    for one, other in zip(
        backend.named_leaves(learner.params), backend.named_leaves(expected.params), strict=True
    ):
        np.testing.assert_array_equal(backend.to_host(one[1]), backend.to_host(other[1]))
    with pytest.warns(DeprecationWarning, match=message):
        Clipped(old, 1.0)
    with pytest.warns(DeprecationWarning, match=message):
        Replicas(dynamics, UORO(), old, [(params, state)], seeds=[0])
