"""What an estimator guarantees, and how it says so; the former name of the attribute."""

from __future__ import annotations

from typing import Any

import pytest

from uoro import RTRL, UORO, JointUORO, RollingTruncated, Streams, TruncatedBPTT
from uoro.errors import SettingError
from uoro.estimator import Windowed, guarantee_of
from uoro.estimators import Truncated
from uoro.prediction import AdvancesStreams

GUARANTEES = (
    (RTRL(), "exact"),
    (UORO(), "unbiased"),
    (JointUORO(2), "unbiased"),
    (Streams(UORO(), 3), "unbiased"),
    (TruncatedBPTT(2), "biased"),
    (RollingTruncated(2), "biased"),
    (Truncated(), "biased"),
)


@pytest.mark.parametrize(("estimator", "guarantee"), GUARANTEES, ids=str)
def test_each_estimator_declares_its_guarantee(estimator: Any, guarantee: str) -> None:
    assert guarantee_of(estimator) == estimator.guarantee == guarantee
    with pytest.warns(DeprecationWarning, match=rf"{type(estimator).__name__}\.guarantee"):
        assert estimator.estimand == guarantee


class Theirs:
    """An estimator that someone wrote for the former name."""

    estimand = "unbiased"


def test_an_estimator_that_has_only_the_former_name_is_accepted_with_a_warning() -> None:
    with pytest.warns(DeprecationWarning, match=r"Theirs\.estimand.*Write Theirs\.guarantee"):
        assert guarantee_of(Theirs()) == "unbiased"


def test_an_estimator_that_guarantees_nothing_known_is_refused() -> None:
    wrong = Theirs()
    wrong.estimand = "perfect"
    with (
        pytest.warns(DeprecationWarning, match=r"Theirs\.guarantee"),
        pytest.raises(SettingError, match=r"expected one of 'exact'.*got 'perfect'"),
    ):
        guarantee_of(wrong)
    with pytest.raises(SettingError, match=r"object\.guarantee: expected one of.*got None"):
        guarantee_of(object())


def test_optional_interfaces_are_told_by_isinstance() -> None:
    for estimator, averages, windowed in (
        (UORO(), True, False),
        (JointUORO(2), True, False),
        (Truncated(), True, False),
        (TruncatedBPTT(3), True, True),
        (RTRL(), False, False),
    ):
        assert isinstance(estimator, AdvancesStreams) == averages
        assert isinstance(estimator, Windowed) == windowed
