"""Blocks: what turns a client into numbers, one file each."""
