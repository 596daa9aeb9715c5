"""Checks that anyone can run on a backend or a model of their own."""

from uoro_conformance.declared import check_declaration as check_declaration
from uoro_conformance.declared import check_unbiased as check_unbiased
from uoro_conformance.enumeration import check_mean_over_all_signs as check_mean_over_all_signs
from uoro_conformance.enumeration import sign_sequences as sign_sequences
from uoro_conformance.exact import check_chain as check_chain
from uoro_conformance.exact import check_determinism as check_determinism
from uoro_conformance.exact import check_gradient_path as check_gradient_path
from uoro_conformance.exact import check_sign_equivariance as check_sign_equivariance
from uoro_conformance.finding import Finding as Finding
from uoro_conformance.free_runs import check_by_sampling as check_by_sampling
from uoro_conformance.free_runs import relative_variance as relative_variance
from uoro_conformance.laws import check_adjointness as check_adjointness
from uoro_conformance.laws import check_linearity as check_linearity
from uoro_conformance.laws import check_outcomes_agree as check_outcomes_agree
from uoro_conformance.laws import check_purity as check_purity
from uoro_conformance.laws import check_rtrl_sums_to_bptt as check_rtrl_sums_to_bptt
from uoro_conformance.laws import check_truth as check_truth
from uoro_conformance.model import check_model as check_model
from uoro_conformance.monte_carlo import check_mean as check_mean
from uoro_conformance.parity import check_parity as check_parity
from uoro_conformance.signs import check_signs as check_signs
from uoro_conformance.signs import drawn_signs as drawn_signs
from uoro_conformance.streams import check_streams as check_streams
from uoro_conformance.systems import GALLERY as GALLERY
from uoro_conformance.systems import System as System
from uoro_conformance.systems import Trial as Trial
