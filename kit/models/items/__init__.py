"""Item encoders: products as vectors, behind one interface."""

from kit.models.items.base import ItemEncoder, Items, ItemSettings, item_encoder, load_items, make_items

__all__ = ["ItemEncoder", "ItemSettings", "Items", "item_encoder", "load_items", "make_items"]
