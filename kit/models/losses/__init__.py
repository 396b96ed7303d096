"""Pair losses: a positive against its negatives, for sequence, graph and combined models alike."""

from kit.models.losses.base import LOSSES, AnyLoss, LossSettings, PairLoss, PairScores, loss, make_loss

__all__ = ["LOSSES", "AnyLoss", "LossSettings", "PairLoss", "PairScores", "loss", "make_loss"]
