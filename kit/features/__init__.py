"""Hand-made features in Polars, one file per family."""
