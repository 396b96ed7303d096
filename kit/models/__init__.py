"""Torch modules and losses: event and item embedding, encoders, cross networks, objectives and the one training loop."""
