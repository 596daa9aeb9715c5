"""What is compiled gives the same numbers, is compiled once, and can be kept."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import pytest
import torch
from systems import TINY_MODELS, build, entries, make_items, relative
from uoro_jax import compiler_options, compiling, keep_compiled
from uoro_torch.compiling import LOOKS, CompiledStep

from uoro import RTRL, UORO, Adam, Backend, Estimator, JointUORO, Learner, load_backend
from uoro.algebra import norm
from uoro.errors import DerivativeError, SettingError

CPU = torch.device("cpu")


def _compiler(
    monkeypatch: pytest.MonkeyPatch, change: Callable[[Any], Any]
) -> list[dict[str, Any]]:
    """Put a compiler in the place of PyTorch's that changes what a function gives."""
    asked = list[dict[str, Any]]()

    def compile(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
        asked.append(options)
        return lambda *arguments: change(function(*arguments))

    monkeypatch.setattr(torch, "compile", compile)
    return asked


def _step(x: torch.Tensor) -> dict[str, Any]:
    return {"a": torch.tanh(x), "small": 1e-3 * x, "number": 2.0, "count": torch.tensor(3)}


WRONG: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "off by a millionth": lambda leaf: leaf * (1 + 1e-6),
    "of the wrong sign": lambda leaf: -leaf,
    "dropped": torch.zeros_like,
    "not a number": lambda leaf: leaf * math.nan,
    "infinite": lambda leaf: leaf + math.inf,
}


@pytest.mark.parametrize("leaf", ["a", "small"])
@pytest.mark.parametrize("wrong", WRONG)
def test_a_compiler_that_gives_other_numbers_is_refused(
    monkeypatch: pytest.MonkeyPatch, wrong: str, leaf: str
) -> None:
    _compiler(monkeypatch, lambda made: {**made, leaf: WRONG[wrong](made[leaf])})
    step = CompiledStep(_step, CPU)
    with pytest.raises(DerivativeError, match="expected the numbers of the same step run eagerly"):
        step(torch.linspace(-1.0, 1.0, 5, dtype=torch.float64))


def test_numbers_in_the_place_of_zeros_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    _compiler(monkeypatch, lambda made: made + 1e-9)
    step = CompiledStep(lambda x: 0.0 * x, CPU)
    with pytest.raises(DerivativeError, match="expected the numbers of the same step"):
        step(torch.ones(3))


def test_a_mistake_that_shows_only_later_is_still_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tangent that is dropped is no mistake while the pair is zero."""
    _compiler(monkeypatch, torch.zeros_like)
    step = CompiledStep(lambda x: 2.0 * x, CPU)
    step(torch.zeros(3))
    with pytest.raises(DerivativeError, match="expected the numbers of the same step"):
        step(torch.ones(3))


def test_a_compiler_that_gives_the_same_is_trusted_after_a_few_looks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = list[Any]()

    def step(x: torch.Tensor) -> Any:
        calls.append(x)
        return _step(x)

    asked = _compiler(monkeypatch, lambda made: made)
    compiled = CompiledStep(step, CPU)
    for number in range(LOOKS + 2):
        made = compiled(torch.full((2,), float(number)))
        assert torch.equal(made["a"], torch.tanh(torch.full((2,), float(number))))
    assert len(calls) == 2 * LOOKS + 2
    assert asked == [{"fullgraph": True, "dynamic": False, "options": {"cpp_wrapper": True}}]
    CompiledStep(step, torch.device("meta"))
    assert asked[-1]["options"] is None, "that option is of CPUs"


def test_rounding_and_what_is_not_finite_either_way_are_no_mistakes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _compiler(monkeypatch, lambda made: made * (1 + 1e-14))
    step = CompiledStep(lambda x: x / torch.tensor([1.0, 0.0], dtype=torch.float64), CPU)
    assert torch.isinf(step(torch.ones(2))[1])


def test_a_wide_norm_of_narrow_numbers_is_no_finer_than_they_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As on a GPU, where norms stay on the device, in float64."""
    _compiler(monkeypatch, lambda made: {**made, "norm": made["norm"] * (1 + 1e-7)})
    step = CompiledStep(lambda x: {"x": x, "norm": torch.linalg.vector_norm(x).double()}, CPU)
    step(torch.ones(3))
    step = CompiledStep(lambda x: {"x": x, "norm": torch.linalg.vector_norm(x)}, CPU)
    with pytest.raises(DerivativeError, match="expected the numbers of the same step run eagerly"):
        step(torch.ones(3, dtype=torch.float64))


def _learner(
    backend: Backend, model: str = "rnn", estimator: Estimator | None = None, **options: Any
) -> Learner:
    dynamics, params, state = build(backend, TINY_MODELS[model])
    return Learner(dynamics, estimator or UORO(), Adam(0.01), params, state, **options)


def _compare(backend: Backend, one: Learner, two: Learner) -> None:
    for step, item in enumerate(entries(backend, make_items(5), 5)):
        mine, theirs = one.step(item), two.step(item)
        gaps = [
            relative(backend, mine.gradient, theirs.gradient),
            relative(backend, one.params, two.params),
            relative(backend, one.state, two.state),
            relative(backend, one.carry, two.carry),
            abs(float(mine.loss) - float(theirs.loss)),
        ]
        assert max(gaps) < 1e-10, (step, gaps)


def test_a_learner_compiled_by_the_identity_is_the_eager_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = _compiler(monkeypatch, lambda made: made)
    backend = load_backend("torch")
    _compare(backend, _learner(backend, compile=True), _learner(backend))
    assert len(asked) == 1


def test_a_learner_whose_compiled_step_is_wrong_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    def drop(made: Any) -> Any:
        after, estimate, size = made
        carry = after.carry._replace(tangent=torch.zeros_like(after.carry.tangent))
        return after._replace(carry=carry), estimate, size

    _compiler(monkeypatch, drop)
    backend = load_backend("torch")
    learner = _learner(backend, "linear", compile=True)
    with pytest.raises(DerivativeError, match="Leave compile out"):
        learner.step(entries(backend, make_items(1), 1)[0])
    assert learner.steps == 0


def test_a_learner_that_is_really_compiled_is_the_eager_one() -> None:
    backend = load_backend("torch")
    _compare(backend, _learner(backend, compile=True), _learner(backend))


# PyTorch's compiler calls what PyTorch has deprecated.
@pytest.mark.filterwarnings("ignore:`torch._prims_common.check` is deprecated:FutureWarning")
@pytest.mark.parametrize(
    "estimator",
    [
        pytest.param(JointUORO(2, scaling="rows"), marks=pytest.mark.thorough),
        pytest.param(UORO(rank=2), marks=pytest.mark.thorough),
        pytest.param(RTRL(), marks=pytest.mark.thorough),
    ],
    ids=str,
)
def test_estimators_that_map_are_compiled_too(estimator: Estimator) -> None:
    backend = load_backend("torch")
    learners = [_learner(backend, "rnn", estimator, compile=each) for each in (True, False)]
    _compare(backend, *learners)


def test_leaves_are_mapped_in_the_order_in_which_they_are_listed_when_compiled_too() -> None:
    backend = load_backend("torch")

    def number(tree: Any) -> Any:
        leaves = iter([leaf for _, leaf in backend.named_leaves(tree)])
        return backend.map(lambda leaf: leaf - next(leaves), tree)

    tree = {"b": torch.ones(2), "a": {"z": torch.ones(2) * 2, "y": torch.ones(2) * 3}}
    compiled = torch.compile(number, backend="eager", fullgraph=True)
    assert float(norm(backend, compiled(tree))) == float(norm(backend, number(tree))) == 0.0


def test_a_backend_without_a_compiler_says_so() -> None:
    with pytest.raises(SettingError, match="expected a backend with a compiler, got 'autograd'"):
        _learner(load_backend("autograd"), compile=True)


def test_compile_changes_nothing_where_everything_is_compiled() -> None:
    backend = load_backend("jax")
    with backend.precision("float64"):
        _compare(backend, _learner(backend, compile=True), _learner(backend))


# What JAX is told, and how often it compiles.


@contextmanager
def _compilations() -> Iterator[list[str]]:
    """Count what XLA compiles."""
    seen, listening = list[str](), [True]

    def listen(event: str, duration_secs: float, **more: Any) -> None:
        if listening and event == "/jax/core/compile/backend_compile_duration":
            seen.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield seen
    finally:
        listening.clear()


def test_chunks_of_equal_length_are_compiled_once() -> None:
    backend = load_backend("jax")
    with backend.precision("float64"):
        learner = _learner(backend)
        stream = [{name: column[i] for name, column in make_items(24).items()} for i in range(24)]
        with _compilations() as first:
            learner.run(stream[:6], chunk=3)
        assert first, "or the count means nothing"
        with _compilations() as later:
            learner.run(stream[6:], chunk=3)
        assert later == []
        with _compilations() as longer:
            learner.run(stream[:4], chunk=4)
        assert longer, "another length is another program"


def test_a_norm_outside_of_jit_is_compiled_once() -> None:
    backend = load_backend("jax")
    tree = {"a": jax.numpy.ones((3, 2)), "b": jax.numpy.ones(5)}
    norm(backend, tree)
    with _compilations() as seen:
        assert float(norm(backend, tree)) == pytest.approx(11**0.5)
    assert seen == []


def test_the_options_of_the_compiler_are_taken_by_jit() -> None:
    options = compiler_options()
    assert options is None or all(isinstance(name, str) for name in options)
    if options is not None:
        options.clear()
        assert compiler_options(), "nobody changes them for others"
    assert float(jax.jit(lambda x: x + 1, compiler_options=compiler_options())(1.0)) == 2.0


def test_another_device_or_an_older_xla_gets_no_options(monkeypatch: pytest.MonkeyPatch) -> None:
    takes_them = compiling._takes_them.__wrapped__
    monkeypatch.setattr(compiling, "_takes_them", takes_them)
    with monkeypatch.context() as older:
        older.setattr(compiling, "_CPU", {"xla_of_another_day": True})
        assert compiler_options() is None
    monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
    assert compiler_options() is None


def test_flags_that_are_given_stay_and_an_untried_xla_gets_only_a_lasting_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XLA_FLAGS", "")
    load_backend("jax").compile_fast()  # type: ignore[attr-defined]  # JAX's own
    assert os.environ["XLA_FLAGS"] == ""
    monkeypatch.delenv("XLA_FLAGS")
    monkeypatch.setattr(compiling, "version", lambda name: "99.0.0")
    compiling.compile_fast()
    assert os.environ["XLA_FLAGS"] == "--xla_backend_optimization_level=0"


@pytest.fixture
def _cache_as_it_was() -> Iterator[None]:
    from jax.experimental.compilation_cache import compilation_cache

    config: Any = jax.config
    names = [
        "jax_compilation_cache_dir",
        "jax_persistent_cache_min_compile_time_secs",
        "jax_persistent_cache_min_entry_size_bytes",
    ]
    before = {name: getattr(config, name) for name in names}
    compilation_cache.reset_cache()
    try:
        yield
    finally:
        for name, value in before.items():
            config.update(name, value)
        compilation_cache.reset_cache()


@pytest.mark.usefixtures("_cache_as_it_was")
def test_what_is_compiled_is_kept_in_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "kept"
    keep_compiled(folder)
    assert list(folder.iterdir()) == [], "the probe leaves nothing"
    jax.jit(lambda x: jax.numpy.polyval(jax.numpy.arange(5.0), x))(0.3)
    assert any(path.is_file() for path in folder.rglob("*"))


def test_a_folder_that_cannot_be_written_to_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    before = jax.config.jax_compilation_cache_dir  # type: ignore[attr-defined]  # made at run time
    with pytest.raises(SettingError, match="expected a writable folder"):
        keep_compiled(file / "folder")
    assert jax.config.jax_compilation_cache_dir == before  # type: ignore[attr-defined]  # the same


def test_a_donated_step_writes_over_its_own_copy_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    _compiler(monkeypatch, lambda made: made)
    step = CompiledStep(lambda now, x: ({"a": now["a"] + x}, now["a"] * x), CPU, donate=True)
    given = {"a": torch.zeros(3)}
    once, first = step(given, torch.ones(3))
    assert once["a"].tolist() == [1.0] * 3
    assert first.tolist() == [0.0] * 3
    twice, second = step(once, torch.ones(3))
    assert twice["a"] is once["a"]
    assert twice["a"].tolist() == [2.0] * 3
    assert second.tolist() == [1.0] * 3
    assert given["a"].tolist() == [0.0] * 3


def test_a_donated_learner_equals_one_that_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    _compiler(monkeypatch, lambda made: made)
    backend, items = load_backend("torch"), make_items(12)
    dynamics, params, state = build(backend, TINY_MODELS["gru"])
    learners = [
        Learner(dynamics, UORO(), Adam(1e-2), params, state, compile=True, donate=donate)
        for donate in (False, True)
    ]
    for item in entries(backend, items, 12):
        one, two = (learner.step(item).gradient for learner in learners)
        assert relative(backend, two, one) < 1e-12
    assert relative(backend, *(learner.params for learner in learners)) < 1e-12
