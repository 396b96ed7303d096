"""What readers of text files have in common: the file's bytes are read once, in order, and digested on the way."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping

from kit.data.convert.counts import Tally
from kit.data.convert.mapping import SourceFile
from kit.data.convert.staging import Staging
from kit.data.convert.stream import utf8_chunks, with_last
from kit.errors import KitError


class TextReader:
    """Reads one file of text into `staging`.

    Args:
        source: encoding and form of the file, and what is to be done with records that cannot be read.
        wanted: column → what the mapping wants it for.
        staging: takes the rows.
        file: the file's index.
        tally: is filled in.
    """

    def __init__(
        self, source: SourceFile, wanted: Mapping[str, str], staging: Staging, file: int, tally: Tally
    ) -> None:
        self.source, self.wanted, self.staging, self.file, self.tally = source, wanted, staging, file, tally
        self.record = self.line = 1

    def chunks(self) -> Iterator[tuple[bytes, bool]]:
        """The file's text in UTF-8, a chunk at a time, and whether it is the last; then `tally.digest` is of all of it."""
        length, check = 0, 0
        for chunk, final in with_last(utf8_chunks(self.tally.path, self.tally.name, self.source.encoding)):
            length, check = length + len(chunk), zlib.crc32(chunk, check)
            yield chunk, final
        self.tally.digest = (length, check)

    def require_found(self, found: bool) -> None:
        """KitError for a file in which nothing was `found`."""
        if not found:
            raise KitError(f"{self.tally.name} holds nothing but blank lines.", "Fetch it again, or move it away.")
