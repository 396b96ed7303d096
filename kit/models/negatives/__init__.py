"""Negatives: what positives compete with, drawn for sequence, graph and combined models alike."""

from kit.models.negatives.base import SAMPLERS, AnySampler, NegativeSampler, SamplerSettings, make_sampler, sampler

__all__ = ["SAMPLERS", "AnySampler", "NegativeSampler", "SamplerSettings", "make_sampler", "sampler"]
