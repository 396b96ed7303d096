"""Submissions: a folder with client_ids.npy, embeddings.npy, manifest.json, columns.json, CARD.md; once scored, scores.json."""

from kit.submission.card import write_card
from kit.submission.manifest import read_manifest
from kit.submission.plan import parse_cut
from kit.submission.validate import validate
from kit.submission.write import submit, write_submission

__all__ = ["parse_cut", "read_manifest", "submit", "validate", "write_card", "write_submission"]
