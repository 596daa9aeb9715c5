"""Checks that anyone can run on a backend or a model of their own."""

from uoro_conformance.enumeration import check_mean_over_all_signs as check_mean_over_all_signs
from uoro_conformance.enumeration import sign_sequences as sign_sequences
from uoro_conformance.finding import Finding as Finding
from uoro_conformance.laws import check_adjointness as check_adjointness
from uoro_conformance.laws import check_outcomes_agree as check_outcomes_agree
from uoro_conformance.laws import check_rtrl_sums_to_bptt as check_rtrl_sums_to_bptt
