"""Trunks: what joins the parts of the combined network into one vector."""

from kit.models.trunks.base import TRUNKS, AnyTrunkSettings, Trunk, TrunkSettings, make_trunk, trunk

__all__ = ["TRUNKS", "AnyTrunkSettings", "Trunk", "TrunkSettings", "make_trunk", "trunk"]
