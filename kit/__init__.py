"""Raw event logs in at one end, one vector per client out at the other, and six probes to say how good they are."""

__version__ = "0.1.0"
