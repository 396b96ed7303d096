"""Negatives: what positives compete with, drawn for sequence, graph and combined models alike."""

from kit.models.negatives.base import AnySampler, NegativeSampler, SamplerSettings, load_samplers, make_sampler, sampler

__all__ = ["AnySampler", "NegativeSampler", "SamplerSettings", "load_samplers", "make_sampler", "sampler"]
