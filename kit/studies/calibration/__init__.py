"""Which cheap stand-in ranks profiles as the official probe does, and at what cost."""
