"""Derivatives of a model: how they are taken, chosen, checked and composed."""
