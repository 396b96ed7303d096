"""Feature families."""
