"""The experiments by name."""

from __future__ import annotations

from collections.abc import Sequence

from uoro.arguments import mismatch
from uoro.errors import SettingError, UnknownNameError, spelled
from uoro.lab.reproduce.experiment import Experiment
from uoro.lab.reproduce.figure_1a import Figure1a
from uoro.lab.reproduce.figure_1b import Figure1b
from uoro.lab.reproduce.figure_1c import Figure1c
from uoro.lab.reproduce.figure_2a import Figure2a
from uoro.lab.reproduce.figure_2b import Figure2b
from uoro.lab.reproduce.figure_4 import Figure4
from uoro.lab.reproduce.rank_learning import RankLearning
from uoro.lab.reproduce.rank_noise import RankNoise
from uoro.lab.reproduce.section_3_4 import Section34

EXPERIMENTS: tuple[Experiment, ...] = (
    Figure1a(),
    Figure1b(),
    Figure1c(),
    Figure2a(),
    Figure2b(),
    Section34(),
    Figure4(),
    RankNoise(),
    RankLearning(),
)
# Table 1 is where the curves of figure 4 end.
OTHER_NAMES = {"table1": "fig4"}


def find(names: Sequence[str]) -> list[Experiment]:
    """Return experiments by their names; ``"all"`` stands for all.

    Raises:
        UnknownNameError: If a name is unknown; the message suggests the nearest.
        SettingError: If ``names`` is no list, or empty.
    """
    if not isinstance(names, (list, tuple)) or not names:
        hint = "Try ['fig2a']."
        raise SettingError(
            mismatch("reproduce", "names", "a list of at least one name", spelled(names), hint)
        )
    known = {experiment.name: experiment for experiment in EXPERIMENTS}
    found: dict[str, Experiment] = {}
    for name in names:
        if isinstance(name, str) and name == "all":
            found |= known
            continue
        if not isinstance(name, str) or OTHER_NAMES.get(name, name) not in known:
            raise UnknownNameError(
                f"reproduce {spelled(name)}", "experiment", name, [*known, *OTHER_NAMES, "all"]
            )
        experiment = known[OTHER_NAMES.get(name, name)]
        found[experiment.name] = experiment
    return list(found.values())
