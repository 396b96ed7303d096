"""Raw event logs in at one end, one vector per client out at the other, and six probes to say how good they are."""

import os

__version__ = "0.1.0"

# Torch asks for huge pages then, where the system grants them on request (Linux): the probes and trainings stream through
# gigabytes of weights and moments, and spend less time on looking up addresses. Torch reads it once, so before its import.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
