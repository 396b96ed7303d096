"""Tables on stdout."""

from __future__ import annotations

import sys

from rich.console import Console as RichConsole


class Console(RichConsole):
    """rich's console on stdout. Away from a terminal nothing is wrapped or cut at a width that nobody has.

    Args:
        least: columns at least; a terminal may wrap.
        piped: columns away from a terminal; rich's own choice if None.
    """

    def __init__(self, least: int = 20, piped: int | None = None) -> None:
        super().__init__(width=None if sys.stdout.isatty() else piped)
        self.width = max(self.width, least)

    def on_broken_pipe(self) -> None:
        """Let it out, for `kit.cli.net`: rich would end with 1, which means findings."""
        raise BrokenPipeError
