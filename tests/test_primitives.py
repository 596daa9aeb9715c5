"""Backends that break a law of theirs."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
from uoro_conformance import GALLERY
from uoro_conformance.backend import (
    BACKEND_LAWS,
    check_draws,
    check_gaussian,
    check_loops,
    check_norm,
)
from uoro_conformance.cases import Session, guarded, run_case
from uoro_conformance.many import check_many
from uoro_conformance.profiles import PROFILES
from uoro_conformance.programs import compile_fast
from uoro_conformance.running import choose_cases

from uoro import Backend, load_backend
from uoro.algebra import entry, with_products
from uoro.dynamics import Batched, Outcome


def _broken_backend(backend: Backend, **methods: Any) -> Any:
    class Broken:
        def __getattr__(self, name: str) -> Any:
            return methods.get(name) or getattr(backend, name)

    return Broken()


def _breakages(backend: Backend) -> dict[str, dict[str, Any]]:
    def plain_norms(make: Any) -> Any:
        trees = make()
        each: list[list[Any]] = [[leaf for _, leaf in backend.named_leaves(x)] for x in trees]
        return trees, [sum((leaf**2).sum() for leaf in leaves) ** 0.5 for leaves in each]

    def scan(
        body: Any, carry: Any, items: Any, *, reverse: bool = False, bounds: Any = None
    ) -> Any:
        return backend.scan(body, carry, items, bounds=bounds)

    def random(key: Any, like: Any, law: Any, batch: Any = (), stacked: int = 0) -> Any:
        return backend.random(backend.key(0), like, law, batch, stacked)

    def products(carried: Any, make: Any) -> Any:
        across, own, mixed = with_products(backend, carried, make)
        return across, 1.001 * own, mixed

    def slanted(transition: Any, *, has_aux: bool = False, check: bool = True) -> Any:
        """Build dynamics that differ where the model is checked."""

        def other(params: Any, state: Any, inputs: Any) -> Any:
            following, loss = transition(params, state, inputs)
            return following, loss * (1.001 if check else 1.0)

        return backend.dynamics(other, check=check)

    return {
        "trees": {"map": lambda f, tree, *others: dict(backend.map(f, tree, *others), list=())},
        "algebra": {"inner": lambda x, y: backend.inner(x, y) * 1.001},
        "norm": {"with_norms": plain_norms},
        "loops": {"scan": scan},
        "border": {"from_host": lambda tree, dtype=None: backend.from_host(tree, dtype="float32")},
        "draws": {"random": random},
        "dynamics": {"dynamics": lambda f, **options: backend.dynamics(lambda *a: f(*a)[:2])},
        "products": {"with_products": products},
        "checked": {"dynamics": slanted},
    }


@pytest.mark.parametrize(
    "law",
    ["trees", "algebra", "norm", "loops", "border", "draws", "dynamics", "products", "checked"],
)
def test_each_broken_primitive_is_refused(law: str) -> None:
    backend = load_backend("autograd")
    check = BACKEND_LAWS[law]
    check(backend, "float64").require()
    finding = guarded(
        partial(check, _broken_backend(backend, **_breakages(backend)[law]), "float64"), law
    )
    assert finding.verdict == "broken", finding


@pytest.mark.parametrize("number", [lambda key, n: key if n == 0 else (key, n), lambda key, n: 0])
def test_keys_that_collide_are_refused(number: Any) -> None:
    """fold(key, 0) that is the key itself, and a fold that forgets its number."""
    backend = load_backend("autograd")

    def fold(key: Any, n: int) -> Any:
        made = number(key, n)
        return backend.fold(*made) if isinstance(made, tuple) else key

    broken = _broken_backend(backend, fold=fold)
    assert check_draws(broken, "float64").verdict == "broken"


def test_gaussian_draws_that_are_all_one_number_are_refused() -> None:
    backend = load_backend("autograd")

    def random(*arguments: Any) -> Any:
        draws = backend.random(*arguments)
        return {**draws, "a": np.repeat(draws["a"][:, :1], 2, axis=1)}

    assert check_gaussian(_broken_backend(backend, random=random), "float64").verdict == "broken"


def test_gaussian_noise_of_another_variance_is_refused() -> None:
    backend = load_backend("autograd")

    def random(*arguments: Any) -> Any:
        return backend.map(lambda leaf: 1.2 * leaf, backend.random(*arguments))

    check_gaussian(backend, "float64").require()
    assert check_gaussian(_broken_backend(backend, random=random), "float64").verdict == "broken"


def test_a_scan_that_does_not_keep_to_its_bounds_is_refused() -> None:
    backend = load_backend("autograd")

    def scan(
        body: Any, carry: Any, items: Any, *, reverse: bool = False, bounds: Any = None
    ) -> Any:
        return backend.scan(body, carry, items, reverse=reverse)

    finding = guarded(partial(check_loops, _broken_backend(backend, scan=scan), "float64"), "loops")
    assert finding.verdict == "broken"
    assert "The check raised" not in finding.evidence


WRONG_NORMS: dict[str, Any] = {
    "squares of what is small": lambda flat: [sum(a * a for a in x) ** 0.5 for x in flat],
    "one scale for all": lambda flat: [
        _largest(flat) * float(np.linalg.norm(np.asarray(x) / _largest(flat))) for x in flat
    ],
    "one norm for all": lambda flat: [float(np.linalg.norm(flat[0]))] * len(flat),
}


def _largest(flat: list[list[float]]) -> float:
    return max((abs(a) for x in flat for a in x), default=0.0) or 1.0


@pytest.mark.parametrize("wrong", [*WRONG_NORMS, "trees that are not those made"])
def test_norms_that_are_wrong_together_are_refused(wrong: str) -> None:
    backend = load_backend("autograd")

    def with_norms(make: Any) -> Any:
        trees, norms = backend.with_norms(make)
        if wrong not in WRONG_NORMS:
            return tuple(backend.combine((1.001, x)) for x in trees), norms
        leaves: list[list[Any]] = [[leaf for _, leaf in backend.named_leaves(x)] for x in trees]
        flat = [[float(a) for leaf in x for a in leaf.reshape(-1)] for x in leaves]
        with np.errstate(over="ignore"):
            return trees, WRONG_NORMS[wrong](flat)

    finding = guarded(
        partial(check_norm, _broken_backend(backend, with_norms=with_norms), "float64"), "norm"
    )
    assert finding.verdict == "broken", finding
    assert "The check raised" not in finding.evidence


def test_a_model_of_many_streams_whose_loss_is_a_sum_is_refused() -> None:
    """Of `Batched` dynamics, and of a mean immediate gradient that no such model gives."""
    backend = load_backend("autograd")
    trial = GALLERY[0].build(backend)
    check_many(*trial.first).require()

    class Batch:
        def __init__(self, dynamics: Any, factor: float) -> None:
            self.dynamics, self.factor = dynamics, factor

        def __getattr__(self, name: str) -> Any:
            return getattr(self.dynamics, name)

        def many(self) -> Any:
            return Many(self.dynamics, self.factor)

    class Many:
        def __init__(self, dynamics: Any, factor: float) -> None:
            self.dynamics, self.factor = dynamics, factor

        def forward(self, *at: Any) -> Any:
            return self.vjp(*at)[0]

        def vjp(self, params: Any, states: Any, items: Any) -> Any:
            count = len(states)
            each = [
                self.dynamics.vjp(params, entry(backend, states, i), entry(backend, items, i))
                for i in range(count)
            ]
            results = backend.collect([tuple(outcome[:2]) for outcome, _ in each])

            def pullback(cotangents: Any, weights: Any) -> Any:
                pulled = [
                    pull(
                        *(
                            None if c is None else entry(backend, c, i)
                            for c in (cotangents, weights)
                        )
                    )
                    for i, (_, pull) in enumerate(each)
                ]
                return (
                    backend.combine(*((self.factor, by_params) for by_params, _ in pulled)),
                    backend.collect([by_state for _, by_state in pulled]),
                )

            return Outcome(*results), pullback

    dynamics, *point = trial.first
    right: Any = Batch(dynamics, 1.0)
    assert isinstance(right, Batched)
    made: Any = right
    check_many(made, *point).require()
    wrong: Any = Batch(dynamics, 3.0)
    assert check_many(wrong, *point).verdict == "broken"


def test_a_backend_compiles_fast_unless_the_profile_is_the_thorough_one() -> None:
    asked = list[str]()

    class Compiler:
        def __getattr__(self, name: str) -> Any:
            return getattr(load_backend("autograd"), name)

        def compile_fast(self) -> None:
            asked.append("fast")

    for profile in PROFILES.values():
        compile_fast(Compiler(), profile)
    assert len(asked) == 2
    compile_fast(load_backend("autograd"), PROFILES["ci"])


def test_programs_are_dropped_between_groups_of_laws() -> None:
    dropped = list[str]()

    class Compiler:
        def __getattr__(self, name: str) -> Any:
            return getattr(load_backend("autograd"), name)

        def drop_programs(self) -> None:
            dropped.append("programs")

    session = Session(Compiler(), PROFILES["dev"])
    for case in choose_cases(
        PROFILES["dev"], ["float64/backend/[tn]*", "float64/exact/outcome/u*"]
    ):
        run_case(case, session).require()
    assert len(dropped) == 3, "after the backend, after uoro, after uoro:rank=2"
