"""`kit bench`: data folders × recipes × probes in one table, with intervals over clients and over shops."""
