"""Searches over recipes: the search space, the objective, durable studies, workers, and what was learned from them."""
