"""Scoring submissions: probes on tasks, what is kept of it, and how scores are compared."""
