"""Submissions: a folder with client_ids.npy, embeddings.npy, manifest.json, columns.json and, once scored, scores.json."""

from kit.submission.validate import validate
from kit.submission.write import parse_cut, read_manifest, submit, write_submission

__all__ = ["parse_cut", "read_manifest", "submit", "validate", "write_submission"]
