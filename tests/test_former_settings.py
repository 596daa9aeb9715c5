"""`UORO` accepts the settings it had before, with a warning that says what to write."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from uoro import UORO, JointUORO
from uoro.errors import SettingError


@pytest.mark.parametrize(
    ("positions", "settings", "present", "new"),
    [
        ((), {"law": "gaussian"}, UORO(distribution="gaussian"), r"UORO\(distribution=\.\.\.\)"),
        ((2,), {"reduction": "independent"}, UORO(2), r"UORO\(rank\)"),
        ((3,), {"reduction": "optimal"}, JointUORO(3), r"JointUORO\(rank\)"),
        (
            (),
            {"rank": 2, "reduction": "optimal", "scaling": "rows", "epsilon": 1e-6},
            JointUORO(2, scaling="rows"),
            r"JointUORO\(rank\)",
        ),
        ((2, "spherical"), {}, UORO(2, distribution="spherical"), r"UORO\(rank, distribution="),
    ],
)
def test_a_former_setting_means_what_it_meant(
    positions: Any, settings: Any, present: Any, new: str
) -> None:
    make: Any = UORO
    with pytest.warns(DeprecationWarning, match=new):
        assert make(*positions, **settings) == present


def test_a_former_setting_that_meant_nothing_is_refused() -> None:
    make: Any = UORO
    with pytest.raises(SettingError, match=r"reduction: expected one of 'independent'.*'best'"):
        make(reduction="best")
    with (
        pytest.warns(DeprecationWarning, match=r"JointUORO\(rank\)"),
        pytest.raises(SettingError, match="the only one of joint pairs, got 'gaussian'"),
    ):
        make(reduction="optimal", distribution="gaussian")


def test_an_estimator_is_copied_by_pickle_and_shows_its_signature() -> None:
    estimator = UORO(2, scaling="rows")
    assert pickle.loads(pickle.dumps(estimator)) == estimator
    with pytest.raises(TypeError, match="depth"):
        UORO(depth=2)  # type: ignore[call-arg]  # on purpose
