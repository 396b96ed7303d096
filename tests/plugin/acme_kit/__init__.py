"""Parts for kit, made outside it."""
