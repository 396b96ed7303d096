"""Pair losses: a positive against its negatives, for sequence, graph and combined models alike."""

from kit.models.losses.base import AnyLoss, LossSettings, PairLoss, PairScores, load_losses, loss, make_loss

__all__ = ["AnyLoss", "LossSettings", "PairLoss", "PairScores", "load_losses", "loss", "make_loss"]
