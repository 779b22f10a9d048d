"""Shortcuts: attribution that sits in one place over many images of a class, confirmed by exchanging that place.

Clustering heatmaps is spectral relevance analysis (Lapuschkin et al. 2019, Nature Communications 10:1096). A place
alone proves nothing (objects gather too), so the model is asked: put what the class shows there on images of other
classes, and see whether they join it; take it away, and see whether its own leave. What is shown by less than about a
quarter of a class is not found.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from audit.core.seeding import Generators
from audit.core.types import Attributions, Batch, Labels
from audit.models.under_test import ModelUnderTest

HOT = 3.0
"""A pixel is hot where the mean share of the positive attribution is this many times even,"""
STEADY = 0.7
"""and above even in this share of the images."""
LARGEST = 0.3
"""A region over more of the image than this is no place."""
CONVINCING = 0.33
"""The effect that convicts. Measured on trained nets: planted shortcuts 0.37 to 0.87; gatherings of objects at most
0.12 where they move, and up to 0.35 where they all stand in the middle (the trousers of Fashion-MNIST)."""
DENSE = 6.0
"""And the effect for each part of the image exchanged: a larger part of an object brings more of its class by itself.
Measured: planted shortcuts 9 to 15, the trousers at most 4.3. So no place larger than a sixth of the image is
convicted: that large, a shortcut cannot be told from an object that stands where it always stands."""
FEWEST = 8
"""Images of a class, or of a cluster of its heatmaps, below which nothing is concluded."""


@dataclass(frozen=True)
class ShortcutCandidate:
    """A place that holds attribution: `region` bool (H, W); `images` the positions in the batch that show it;
    `share` of their positive attribution inside it."""

    label: int
    region: Tensor
    images: Tensor
    share: float


@dataclass(frozen=True)
class ShortcutTest:
    """What the model says of a suspect. `transplanted`: the share of other classes' images that join the class once
    their place shows what images of the class have there; `removed`: the share of the class's images that leave it
    once theirs shows another class's. `joined_anyway` and `left_anyway` are the controls: the same exchanges with
    donors of the other kind, so that what any foreign content does in that place is taken off.
    """

    suspect: ShortcutCandidate
    transplanted: float
    joined_anyway: float
    removed: float
    left_anyway: float

    @property
    def effect(self) -> float:
        """What the place's content alone brings to the class: enough to decide, even where the object would do too."""
        return self.transplanted - self.joined_anyway

    @property
    def confirmed(self) -> bool:
        """Whether the place alone decides, for enough images and for more than its size explains."""
        area = float(self.suspect.region.double().mean())
        return self.effect >= max(CONVINCING, DENSE * area)


def shortcut_candidates(attributions: Attributions, labels: Labels, *, seed: int = 0) -> list[ShortcutCandidate]:
    """The places worth a trial, of each class as a whole and of each cluster of its heatmaps.

    `labels` int64 (N,), the class explained.
    """
    shares = positive_shares(attributions)
    found: list[ShortcutCandidate] = []
    for label in sorted(set(labels.tolist())):
        mine = (labels == label).nonzero().flatten()
        for members in [mine, *(mine[group] for group in clusters(shares[mine], seed=seed))]:
            one = _suspect(label, shares, members)
            if one is not None:
                found.append(one)
    return found


def confirm_shortcuts(
    model: ModelUnderTest, batch: Batch, candidates: Sequence[ShortcutCandidate], *, generators: Generators
) -> list[ShortcutTest]:
    """Each class's confirmed trial, strongest first; empty where the model takes no shortcut.

    Of several, the earlier (the whole class before its clusters) unless a later one is clearly stronger.
    """
    best: dict[int, ShortcutTest] = {}
    for suspect in candidates:
        trial = evaluate_candidate(model, batch, suspect, generators=generators)
        before = best[suspect.label].effect if suspect.label in best else 0.0
        if trial.confirmed and trial.effect > 1.2 * before:
            best[suspect.label] = trial
    return sorted(best.values(), key=lambda trial: -trial.effect)


def positive_shares(attributions: Attributions) -> Tensor:
    """Each pixel's share of its map's positive part, lightly blurred, (N, H, W); even where nothing is positive."""
    positive = attributions.sum(1, keepdim=True).clamp(min=0)
    smooth = functional.avg_pool2d(positive, 3, stride=1, padding=1, count_include_pad=False).squeeze(1)
    smooth = smooth + 1e-12
    return smooth / smooth.sum((1, 2), keepdim=True)


def clusters(shares: Tensor, *, seed: int = 0, most: int = 4) -> list[Tensor]:
    """Groups of like heatmaps, as positions, by spectral clustering, as many as silhouettes prefer; none if too few."""
    from sklearn.cluster import SpectralClustering
    from sklearn.metrics import silhouette_score

    if len(shares) < 2 * FEWEST:
        return []
    side = min(8, *shares.shape[1:])
    coarse = functional.adaptive_avg_pool2d(shares[:, None], side).flatten(1).cpu().double().numpy()
    features = np.sqrt(coarse / coarse.sum(1, keepdims=True))
    best: tuple[float, list[Tensor]] = (0.0, [])
    for count in range(2, most + 1):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a graph of several parts is what is looked for
            groups = SpectralClustering(
                count, affinity="nearest_neighbors", n_neighbors=min(10, len(features) - 1), random_state=seed
            ).fit_predict(features)
        if len(set(groups)) < 2:
            continue
        quality = float(silhouette_score(features, groups))
        if quality > best[0]:
            best = quality, [torch.from_numpy(np.flatnonzero(groups == g)) for g in sorted(set(groups))]
    return best[1]


def evaluate_candidate(
    model: ModelUnderTest, batch: Batch, suspect: ShortcutCandidate, *, generators: Generators, most: int = 200
) -> ShortcutTest:
    """Exchange the suspect's place among up to `most` images of its class and as many others, four ways."""
    own = (batch.labels == suspect.label).nonzero().flatten()[:most]
    others = (batch.labels != suspect.label).nonzero().flatten()[:most]
    shares = [
        _moved(model, batch, suspect, receivers, donors, generators.fork(way))
        for way, (receivers, donors) in enumerate([(others, own), (others, others), (own, others), (own, own)])
    ]
    return ShortcutTest(suspect, *shares)


def _moved(
    model: ModelUnderTest,
    batch: Batch,
    suspect: ShortcutCandidate,
    receivers: Tensor,
    donors: Tensor,
    generators: Generators,
) -> float:
    """The share of `receivers` that enter or leave the suspect's class when their place shows a random donor's."""
    inside = suspect.region.to(batch.images.device)
    given = donors[generators.select(receivers).integers(len(donors), 1).flatten()]
    mixed = torch.where(inside, batch.images[given], batch.images[receivers])
    before = model.predictions(batch.images[receivers]) == suspect.label
    after = model.predictions(mixed) == suspect.label
    right = before == (batch.labels[receivers] == suspect.label)
    return float(((before != after) & right).sum() / right.sum().clamp(min=1))


def _suspect(label: int, shares: Tensor, members: Tensor) -> ShortcutCandidate | None:
    if len(members) < FEWEST:
        return None
    mine = shares[members]
    even = 1 / mine[0].numel()
    hot = (mine.mean(0) >= HOT * even) & ((mine >= even).double().mean(0) >= STEADY)
    if not bool(hot.any()) or float(hot.double().mean()) > LARGEST:
        return None
    return ShortcutCandidate(int(label), hot.cpu(), members.cpu(), float((mine * hot).sum((1, 2)).mean()))
