"""The combined network: features, a sequence encoder and graph vectors meet in one trunk, from which heads tell the future.

    features (quantile-scaled) ─┬─ trunk apart ─────────────────── intensity: will there be a purchase / a cart add?
                                │
    sequence encoder, read out ─┼─ block dropout ─ trunk (DCN-v2) ─┬─ choice: of which product, category, price bucket?
    graph vector ───────────────┘                                  └─ contrast: own future among those of others

What the trunks give is z, the combined vector.

Parts, trunk, heads and balance are registered (`kit.models.parts`, `trunks`, `heads`, `balances`), and so are the encoder of
events (`sequence`) and that of products (`items`): the network is what its settings name, kinds from outside the kit included.
Expected purchases factor into intensity × choice, so two questions serve all six tasks: a task's logit is the sum of two logs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, cast

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn

from kit.kinds import chosen
from kit.models.balances import AnyBalanceSettings, Balance, make_balance
from kit.models.balances.fixed import FixedSettings
from kit.models.batch import CombinedBatch
from kit.models.events import EventSettings
from kit.models.heads import HEADS, Head, Heads, HeadShape, Names, Shared
from kit.models.heads.base import Queries
from kit.models.heads.choice import ChoiceSettings
from kit.models.heads.contrast import ContrastSettings
from kit.models.heads.intensity import IntensitySettings
from kit.models.parts import PARTS, Part, Parts, PartSettings
from kit.models.parts.features import FeaturesSettings
from kit.models.parts.sequence import SequencePartSettings
from kit.models.sequence import ClientEncoder, Encoder
from kit.models.sequence.transformer import TransformerSettings
from kit.models.trunks import AnyTrunkSettings, make_trunk
from kit.models.trunks.deep_cross import DeepCrossSettings
from kit.recipe import Strict
from kit.tokens import Vocabulary


class NetworkSettings(Strict):
    """The combined network: what goes in, what joins it, what comes out."""

    width: int = Field(128, ge=8, description="What a trunk gives; z, the combined vector, is those of all trunks.")
    events: EventSettings = EventSettings(width=48, age=True)
    encoder: Encoder = Field(TransformerSettings(layers=2, length=96), description="The sequence encoder.")
    parts: Parts = Field(
        {"features": FeaturesSettings(), "sequence": SequencePartSettings(), "graph": PartSettings()},
        description="What goes in; false leaves a part out.",
    )
    block_dropout: float = Field(0.1, ge=0, lt=1, description="Share of clients who lose one part while training.")
    trunk: AnyTrunkSettings = Field(DeepCrossSettings(), description="What joins the parts.")
    heads: Heads = Field(
        {"intensity": IntensitySettings(), "choice": ChoiceSettings(), "contrast": ContrastSettings()},
        description="What comes out; false leaves a head out.",
    )
    apart: tuple[str, ...] = Field(
        ("intensity",),
        description="Heads with a trunk of their own: one that learns what buyers choose tells less well who will buy at all.",
    )
    apart_reads: tuple[str, ...] = Field(
        ("features",),
        description="Parts that such trunks read; all, where none of these is there. What is hand-made says who will buy; what "
        "is learned beside it from few buyers distracts.",
    )
    balance: AnyBalanceSettings = Field(FixedSettings(), description="How loss terms share the trunk.")

    @field_validator("apart")
    @classmethod
    def _known(cls, apart: tuple[str, ...]) -> tuple[str, ...]:
        for kind in apart:
            HEADS.loaded().require(kind)
        return apart

    @field_validator("apart_reads")
    @classmethod
    def _known_parts(cls, parts: tuple[str, ...]) -> tuple[str, ...]:
        for kind in parts:
            PARTS.loaded().require(kind)
        return parts

    moved: ClassVar[Mapping[str, str]] = {
        "cross": "`trunk` (kind `deep_cross`, with the same keys)",
        "sequence": "`parts.sequence`",
        "features": "`parts.features`",
        "graph": "`parts.graph`",
        "numeric": "`parts.features.encoding`",
        "bins": "`parts.features.encoding.bins` (kind `piecewise`)",
        "copies": "`heads.choice.copies`",
        "weights": "`heads.intensity.weights`, `heads.choice.weights` and `heads.contrast.weight`",
        "temperature": "`heads.contrast.temperature`",
    }


class Combined(nn.Module):
    """See the module's docstring.

    Args:
        vocabulary: words and catalogue of the tokens.
        columns: numbers per client by part, of those parts that are made outside (features, graph); 0 leaves a part out.
        items: k, statistics per product at a cut.
        settings: parts, trunk, heads.
        names: by part, names of the numbers that are made outside, where they have any; heads may read some by name.

    Attributes:
        client: embedding and encoder of events; `client.embedding.items` is the item encoder.
        parts, heads: by kind, in the order of the settings.
        names: z_0, z_1 …, the columns of the combined vector.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        columns: Mapping[str, int],
        items: int,
        settings: NetworkSettings,
        names: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        super().__init__()
        self.settings = settings
        dim = settings.events.width
        self.client = ClientEncoder(vocabulary, settings.events, settings.encoder)
        self.parts = nn.ModuleDict()
        for kind, part in chosen(settings.parts).items():
            if columns.get(kind) != 0:
                self.parts[kind] = PARTS.loaded()[kind](dim, columns, part)
        heads, widths = chosen(settings.heads), {kind: part.width for kind, part in self.each_part().items()}
        self.trunk = make_trunk(sum(widths.values()), settings.width, settings.trunk)
        apart = [kind for kind in heads if kind in settings.apart] if len(heads) > 1 else []
        self.reads = tuple(kind for kind in widths if kind in settings.apart_reads) or tuple(widths)
        read = sum(widths[kind] for kind in self.reads)
        self.apart = nn.ModuleDict({kind: make_trunk(read, settings.width, settings.trunk) for kind in apart})
        self.queries = Queries(settings.width, dim)
        shape = HeadShape(settings.width, dim, items, vocabulary, self.queries, names or {})
        self.heads = nn.ModuleDict({kind: HEADS.loaded()[kind](shape, head) for kind, head in heads.items()})
        weights = {name: weight for head in self.each_head().values() for name, weight in head.weights().items()}
        forks = tuple(fork for head in self.each_head().values() for fork in head.forks())
        self.terms = tuple(weights)
        self.balance: Balance = make_balance(weights, settings.balance, forks)
        self.names = tuple(f"z_{i}" for i in range(settings.width * (1 + len(self.apart))))

    def each_part(self) -> dict[str, Part]:
        """The parts by kind."""
        return {kind: cast(Part, part) for kind, part in self.parts.items()}

    def each_head(self) -> dict[str, Head]:
        """The heads by kind."""
        return {kind: cast(Head, head) for kind, head in self.heads.items()}

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    def shared(self) -> Shared:
        """What heads share."""
        return Shared(self.client.embedding.items, self.queries, self.balance.fork)

    def encode(self, batch: CombinedBatch) -> Tensor:
        """z (B, width · trunks): of the shared trunk, then of those that heads have apart."""
        found = {kind: cast(Tensor, part(batch, self.client)) for kind, part in self.each_part().items()}
        joined = torch.cat([self._dropped(part, found[kind]) for kind, part in self.each_part().items()], dim=1)
        read = torch.cat([found[kind] for kind in self.reads], dim=1) if len(self.apart) else joined
        return torch.cat([self.trunk(joined), *(trunk(read) for trunk in self.apart.values())], dim=1)

    def seen(self, kind: str, z: Tensor) -> Tensor:
        """What a head reads of z, (B, width)."""
        first = self.settings.width * (1 + list(self.apart).index(kind) if kind in self.apart else 0)
        return z[:, first : first + self.settings.width]

    def _dropped(self, part: Part, x: Tensor) -> Tensor:
        """Block dropout: while training, a part is now and then replaced by its learned vector of absence."""
        if not self.training or self.settings.block_dropout == 0:
            return x
        gone = torch.rand(len(x), 1, device=x.device) < self.settings.block_dropout
        return torch.where(gone, part.absent, x)

    def forward(self, batch: CombinedBatch) -> dict[str, Tensor]:
        """Weighted loss terms; a term that no client of the batch defines is left out, and the first is 0 if all are."""
        z, shared = self.encode(batch), self.shared()
        terms: dict[str, Tensor] = {}
        for kind, head in self.each_head().items():
            terms |= head.loss(self.seen(kind, z), batch, shared)
        if not terms:  # of these clients nothing is known and nothing happened: a step of zero, for all processes alike
            return {self.terms[0]: 0.0 * z.sum()}
        return cast(dict[str, Tensor], self.balance(terms))

    def columns(self, plans: Mapping[str, Any]) -> tuple[str, ...]:
        """Names of the columns that `predict` gives: z, the heads' vectors, the heads' forecasts."""
        named: list[Names] = [head.names(plans[kind]) for kind, head in self.each_head().items()]
        vectors = [name for names in named for name in names.vectors]
        return (*self.names, *vectors, *(name for names in named for name in names.forecasts))

    @torch.inference_mode()
    def predict(self, batch: CombinedBatch, plans: Mapping[str, Any]) -> Tensor:
        """The columns of all clients in the batch, (B, columns).

        Args:
            batch: labels are not read.
            plans: head → what its `plan` gave for this cut.
        """
        z, shared = self.encode(batch), self.shared()
        said: dict[str, Any] = {}
        filled = []
        for kind, head in self.each_head().items():
            said[kind] = head.say(self.seen(kind, z), batch, shared)
            filled.append(head.fill(said, plans[kind]))
        vectors = [vector for vector, _ in filled if vector is not None]
        return torch.cat([z, *vectors, *(forecast for _, forecast in filled if forecast is not None)], dim=1)
