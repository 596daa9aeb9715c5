"""Deprecated spellings: each works for one release, and its warning names the new spelling.

One row per old spelling: the code as a user wrote it, and what the warning must say.
"""

from __future__ import annotations

import warnings

import pytest

import uoro

SPELLINGS = (
    # The top level of the package: names that have moved to a room of their own.
    ("from uoro import Influence", r"uoro\.estimators\.Influence"),
    ("from uoro import JointInfluence", r"uoro\.estimators\.JointInfluence"),
    ("from uoro import Metrics", r"uoro\.learning\.Metrics"),
    ("from uoro import ParallelEstimator", r"uoro\.estimators\.ParallelEstimator"),
    ("from uoro import RankReport", r"uoro\.monitors\.RankReport"),
    ("from uoro import RankRow", r"uoro\.monitors\.RankRow"),
    ("from uoro import Replicas", r"uoro\.lab\.replicas\.Replicas"),
    ("from uoro import Summary", r"uoro\.learning\.Summary"),
    ("from uoro import bptt", r"uoro\.estimators\.bptt"),
    ("from uoro.algebra import take", r"uoro\.algebra\.entry"),
    ("from uoro.algebra import moving", r"uoro\.algebra\.differentiable"),
    ("from uoro import Truncated", r"TruncatedBPTT\(T\), without unroll"),
    # Settings and attributes of estimators.
    ("from uoro import UORO; UORO(law='gaussian')", r"UORO\(distribution=\.\.\.\)"),
    ("from uoro import UORO; UORO(2, 'signs')", r"UORO\(rank, distribution=\.\.\.\)"),
    ("from uoro import UORO; UORO(2, reduction='optimal')", r"JointUORO\(rank\)"),
    ("from uoro import UORO; UORO(2, reduction='independent')", r"UORO\(rank\)"),
    ("from uoro import UORO; UORO().estimand", r"UORO\.guarantee"),
    ("from uoro_jax import Model", r"uoro_jax\.FunctionalModel"),
    (
        "import jax\n"
        "from uoro_jax import from_nnx\n"
        "module = jax.tree_util.Partial(lambda w, x, s: (s, w * s), jax.numpy.ones(2))\n"
        "from_nnx(module, lambda y, target: y.sum(), jax.numpy.ones(2))",
        r"from_module\(module, loss, state\)",
    ),
    # Modules that have moved.
    ("from uoro.transition import checked", r"uoro\.derivatives\.transition\.checked"),
    # PyTorch.
    ("from uoro_torch import Step", r"uoro_torch\.SingleStep"),
    (
        "import torch; from uoro_torch import Online\n"
        "Online(model=lambda w, s, x: (s, x), params={'w': torch.ones(2)}, state=torch.ones(2))",
        r"Online\(transition=\.\.\.\)",
    ),
    ("from uoro_torch import TorchDynamics", r"uoro_torch\.dynamics\.TorchDynamics"),
    ("from uoro_torch import ModuleDynamics", r"uoro_torch\.module_dynamics\.ModuleDynamics"),
    ("from uoro_torch import ModuleTransition", r"uoro_torch\.module\.ModuleTransition"),
)


@pytest.mark.parametrize(("old", "new"), SPELLINGS, ids=[old for old, _ in SPELLINGS])
def test_an_old_spelling_works_and_names_the_new_one(old: str, new: str) -> None:
    code = compile(old, "as_a_user_wrote_it.py", "exec")
    with pytest.warns(DeprecationWarning, match=new) as caught:
        exec(code, {})
    places = {each.filename for each in caught if each.category is DeprecationWarning}
    assert places == {"as_a_user_wrote_it.py"}, "the warning points at another line: stacklevel"


def test_new_spellings_do_not_warn() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in dir(uoro):
            assert getattr(uoro, name) is not None


def test_a_name_that_never_was_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'uoro' has no attribute 'UROO'"):
        uoro.UROO  # type: ignore[attr-defined]  # noqa: B018
