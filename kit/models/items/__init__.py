"""Item encoders: products as vectors, behind one interface."""

from kit.models.items.base import ITEMS, ItemEncoder, Items, ItemSettings, item_encoder, make_items

__all__ = ["ITEMS", "ItemEncoder", "ItemSettings", "Items", "item_encoder", "make_items"]
