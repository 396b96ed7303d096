"""`kit data fetch`: the two public archives of the challenge, over a server that drops connections and ignores ranges."""

from kit.data.fetch.archives import ARCHIVES, BASE_URL, LICENCE, Archive
from kit.data.fetch.download import Patience, download
from kit.data.fetch.fetch import fetch
from kit.data.fetch.unpack import unpack

__all__ = ["ARCHIVES", "BASE_URL", "LICENCE", "Archive", "Patience", "download", "fetch", "unpack"]
