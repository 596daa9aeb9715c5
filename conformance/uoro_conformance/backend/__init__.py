"""The laws of `Backend`: each method against NumPy, on trees of every shape.

Each check builds its own trees within ``backend.precision(dtype)``.
"""

from typing import Any

from uoro_conformance.backend.draws import check_draws as check_draws
from uoro_conformance.backend.draws import check_gaussian as check_gaussian
from uoro_conformance.backend.dynamics import check_dynamics as check_dynamics
from uoro_conformance.backend.dynamics import check_model_check as check_model_check
from uoro_conformance.backend.loops import check_loops as check_loops
from uoro_conformance.backend.odd_states import check_complex as check_complex
from uoro_conformance.backend.odd_states import check_integers as check_integers
from uoro_conformance.backend.products import check_products as check_products
from uoro_conformance.backend.sizes import check_sizes as check_sizes
from uoro_conformance.backend.trees import check_border as check_border
from uoro_conformance.backend.trees import check_trees as check_trees
from uoro_conformance.backend.vectors import check_algebra as check_algebra
from uoro_conformance.backend.vectors import check_norm as check_norm

BACKEND_LAWS: dict[str, Any] = {
    "trees": check_trees,
    "algebra": check_algebra,
    "norm": check_norm,
    "products": check_products,
    "sizes": check_sizes,
    "loops": check_loops,
    "border": check_border,
    "draws": check_draws,
    "dynamics": check_dynamics,
    "checked": check_model_check,
    "integers": check_integers,
    "complex": check_complex,
}
"""The laws of `Backend`, by name. They leave nothing to chance."""
