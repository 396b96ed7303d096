"""Data room: layout, typed scans, check, split, convert and the synthetic shop."""
