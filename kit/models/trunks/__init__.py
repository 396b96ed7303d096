"""Trunks: what joins the parts of the combined network into one vector."""

from kit.models.trunks.base import AnyTrunkSettings, Trunk, TrunkSettings, load_trunks, make_trunk, trunk

__all__ = ["AnyTrunkSettings", "Trunk", "TrunkSettings", "load_trunks", "make_trunk", "trunk"]
