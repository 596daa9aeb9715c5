"""Derivatives of a model: computed, checked, and composed over several steps."""
