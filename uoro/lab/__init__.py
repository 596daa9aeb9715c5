"""The laboratory: comparisons, the paper's figures, benchmarks."""

from uoro.lab.replicas import Replicas as Replicas
