"""Probes: labels, metrics and the models that score a profile."""
