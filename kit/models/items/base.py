"""What an item encoder is: catalogue rows in, product vectors out, in the space in which clients ask for them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Annotated, ClassVar, TypeVar

from torch import Tensor

from kit.kinds import OneOf, register
from kit.models.table import FieldTable, TableSettings
from kit.recipe import Strict
from kit.registry import Registry
from kit.tokens import Vocabulary


class ItemSettings(Strict):
    """What every item encoder's settings have; each kind adds its own."""

    kind: str


class ItemEncoder(FieldTable, ABC):
    """Products → vectors. It holds the table that events are embedded by, and may use its rows or bring weights of its own.

    Args:
        vocabulary: words and catalogue; row i of the catalogue is product i, row 0 is no product.
        table: of the shared table.
        settings: its own.

    Attributes:
        kind: name in recipes.
        description: one line.
        Settings: its settings, with `kind: Literal[…]`.
        products: p, products of the catalogue.
    """

    kind: ClassVar[str]
    description: ClassVar[str]
    Settings: ClassVar[type[ItemSettings]]

    def __init__(self, vocabulary: Vocabulary, table: TableSettings, settings: ItemSettings) -> None:
        super().__init__(vocabulary, table)
        self.products = len(vocabulary.catalogue)

    @abstractmethod
    def vectors(self, products: Tensor | None, live: Tensor | int | None = None) -> Tensor:
        """Vectors of products.

        Args:
            products: catalogue rows, integer (m,); row 0 gives a vector that means nothing in particular. None for the whole
                catalogue: entry i is then product row i + 1.
            live: words known at the cut, one number or one per product (`batch["live_sku"]`); all words if None.

        Returns:
            (m, width).
        """

    def forward(self, products: Tensor | None, live: Tensor | int | None = None) -> Tensor:
        """The same as `vectors`."""
        return self.vectors(products, live)

    @abstractmethod
    def rows(self, field: str, values: Tensor) -> Tensor:
        """Vectors of a field's values (such as all categories) in the space of the products', (m, width).

        Args:
            field: category, price, url …: a field of the table.
            values: 1 … n, integer (m,).
        """


ITEMS: Registry[type[ItemEncoder]] = Registry("item encoder", "kit.models.items")
AnyItems = TypeVar("AnyItems", bound=type[ItemEncoder])


def item_encoder(cls: AnyItems) -> AnyItems:
    """Class decorator that registers an item encoder under its `kind`."""
    return register(ITEMS, cls)


Items = Annotated[ItemSettings, OneOf(ITEMS)]
"""A setting that is one of the item encoders."""


def make_items(vocabulary: Vocabulary, table: TableSettings, settings: ItemSettings) -> ItemEncoder:
    """The item encoder that `settings.kind` names.

    Raises:
        KitError: unknown kind.
    """
    return ITEMS.loaded()[settings.kind](vocabulary, table, settings)
