"""Many values of a feature map in one row of a backward pass: those whose receptive fields do not meet.

The bound on one value of a convolutional layer depends on a small part of every layer before it. Values whose parts
are disjoint in every layer share a row, and the sums that make up their bounds are taken part by part: the same bounds
from a fraction of the rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from audit.bounds.graph import Affine, BoundGraph
from audit.bounds.region import Region

_NOBODY = -1


@dataclass(frozen=True)
class Cones:
    """Which places of a layer share a row, and whose part each place of the layers before it is.

    A place is an index of the last two axes of a value with three axes or more.

    Attributes:
        colour: Of each place of the layer, int64 (P,); places of one colour share a row.
        rank: Of each place among those of its colour, int64 (P,).
        owner: By the position of an earlier value, the rank of the place whose part each of its own places is, int64
            (colours, places), with `width` for nobody.
        width: The largest number of places of one colour.
    """

    colour: Tensor
    rank: Tensor
    owner: dict[int, Tensor]
    width: int

    @property
    def colours(self) -> int:
        """How many rows a channel takes."""
        return int(self.colour.max()) + 1


def cones(graph: BoundGraph, position: int) -> Cones | None:
    """The cones of a value; None where it has no places, or where all of its places meet.

    Args:
        graph: The net; the cones are kept with it.
        position: Of the value.
    """
    if position not in graph.cones:
        graph.cones[position] = _cones(graph, position)
    found: Cones | None = graph.cones[position]
    return found


def _cones(graph: BoundGraph, position: int) -> Cones | None:
    ancestors = graph.ancestors(position)
    if any(len(graph.nodes[i].shape) < 3 for i in ancestors):
        return None
    reached = _reached(graph, position, ancestors)
    places = len(reached[position])
    meets = torch.zeros(places, places, dtype=torch.bool)
    for mask in reached.values():
        numbers = mask.float()
        meets |= (numbers @ numbers.T) > 0
    colour = torch.full((places,), _NOBODY)
    members: list[list[int]] = []
    for place in range(places):
        choice = next((c for c, taken in enumerate(members) if not meets[place, taken].any()), len(members))
        if choice == len(members):
            members.append([])
        members[choice].append(place)
        colour[place] = choice
    if len(members) == places:
        return None
    rank = torch.tensor([members[c].index(p) for p, c in enumerate(colour.tolist())])
    width = max(map(len, members))
    owner = {}
    for i, mask in reached.items():
        owner[i] = torch.full((len(members), mask.shape[1]), width)
        for place in range(places):
            owner[i][colour[place], mask[place]] = rank[place]
    return Cones(colour, rank, owner, width)


def _reached(graph: BoundGraph, position: int, ancestors: set[int]) -> dict[int, Tensor]:
    """By the position of an earlier value, which of its places each place of the value depends on, bool (P, places)."""
    shape = graph.nodes[position].shape
    places = shape[-1] * shape[-2]
    start = torch.eye(places, dtype=graph.dtype, device=graph.device).view(
        places, *(1,) * (len(shape) - 2), *shape[-2:]
    )
    pending = {position: start.expand(places, *shape)}
    reached: dict[int, Tensor] = {}
    for i in sorted(ancestors, reverse=True):
        mask = (pending.pop(i) > 0).to(graph.dtype)
        flat = mask.flatten(1, -3).amax(1).flatten(1) > 0
        reached[i] = flat.cpu()
        node = graph.nodes[i]
        if not isinstance(node.operation, Affine):
            for source in node.inputs:
                pending[source] = pending[source] + mask if source in pending else mask
            continue
        with torch.enable_grad():
            shapes = [graph.nodes[s].shape for s in node.inputs]
            leaves = [torch.zeros(places, *s, dtype=graph.dtype, device=graph.device).requires_grad_() for s in shapes]
            outputs = (node.operation.spread or node.operation.linear)(*leaves)
            backs = torch.autograd.grad(outputs, leaves, mask, allow_unused=True)
        for source, back in zip(node.inputs, backs, strict=True):
            if back is not None:
                pending[source] = pending[source] + back if source in pending else back
    return reached


@dataclass(frozen=True)
class ByCone:
    """Sums of a backward pass whose rows hold several values each.

    Attributes:
        cones: Of the value that the pass started from.
        colours: Colour of each row, int64 (S,).
    """

    cones: Cones
    colours: Tensor

    def total(
        self, position: int, a: Tensor, values: Tensor, *, double: bool = False, by_place: bool = False
    ) -> Tensor:
        """Sums of products, part by part.

        Args:
            position: Of the value that the coefficients belong to.
            a: (1, S, *shape).
            values: (1, *shape), or broadcast to it.
            double: Whether float32 products are added in float64, but those of one place.
            by_place: Not used: places of a channel belong to several parts.

        Returns:
            (1, S, width).
        """
        products = (a[0] * values[0]).flatten(1, -3).sum(1).flatten(1)
        return self._parts(position, products.double() if double else products)

    def size(self, position: int, a: Tensor, values: Tensor) -> Tensor:
        """Sums of absolute products, part by part.

        Args:
            position: Of the value that the coefficients belong to.
            a: (1, S, *shape).
            values: (1, *shape).
        """
        return self._parts(position, (a[0] * values[0]).abs_().flatten(1, -3).sum(1).flatten(1))

    def minimum(self, region: Region, a: Tensor) -> tuple[Tensor, Tensor]:
        """The minimum of each part over the region, and the sum of its absolute coefficients, (1, S, width) each.

        Args:
            region: One image's.
            a: Coefficients of the image, (1, S, C, H, W).
        """
        size = self._parts(0, a[0].abs().sum(1).flatten(1))
        if region.norm == "linf":
            centre, radius = (region.low + region.high) / 2, (region.high - region.low) / 2
            return self.total(0, a, centre) - self.total(0, a.abs(), radius), size
        owner = self.cones.owner[0].to(a.device)[self.colours]
        ranks = torch.arange(self.cones.width, device=a.device)
        mine = (owner[:, None] == ranks[None, :, None]).view(len(owner), self.cones.width, 1, *a.shape[-2:])
        parts = (a[0][:, None] * mine).flatten(0, 1)[None]
        return region.minimum(parts).view(1, len(owner), -1), size

    def _parts(self, position: int, products: Tensor) -> Tensor:
        owner = self.cones.owner[position].to(products.device)[self.colours]
        parts = products.new_zeros(len(products), self.cones.width + 1)
        return parts.scatter_add(1, owner, products)[None, :, :-1]


class ByRow:
    """Sums of a backward pass whose rows hold one function each."""

    def total(
        self, position: int, a: Tensor, values: Tensor, *, double: bool = False, by_place: bool = False
    ) -> Tensor:
        """Sums of products, (N, S).

        Args:
            position: Of the value that the coefficients belong to.
            a: (N, S, *shape).
            values: (N, *shape), or broadcast to it.
            double: Whether float32 products are added in float64.
            by_place: Whether those of the places of a channel may be added in float32 first.
        """
        if values.shape[2:] == (1, 1):  # One number for all places of a channel.
            a, values = a.flatten(3).sum(3), values.flatten(1)
        if double:
            products = a * values[:, None]
            products = products.flatten(3).sum(3) if products.ndim > 3 and by_place else products.flatten(2)
            return products.sum(2, dtype=torch.float64)
        return _products(a, values)

    def size(self, position: int, a: Tensor, values: Tensor) -> Tensor:
        """Sums of absolute products, (N, S).

        Args:
            position: Of the value that the coefficients belong to.
            a: (N, S, *shape).
            values: (N, *shape).
        """
        return _products(a.abs(), values)

    def minimum(self, region: Region, a: Tensor) -> tuple[Tensor, Tensor]:
        """The minimum of each function over the region, and the sum of its absolute coefficients, (N, S) each.

        Args:
            region: The inputs.
            a: Coefficients of the image, (N, S, *shape).
        """
        return region.minimum(a), a.abs().flatten(2).sum(2)


def _products(a: Tensor, values: Tensor) -> Tensor:
    """Sums of products, (N, S), without a tensor of the products."""
    wide = values.expand(values.shape[0], *a.shape[2:]).flatten(1)
    return (a.flatten(2) @ wide.expand(len(a), -1)[:, :, None])[:, :, 0]


BY_ROW = ByRow()
