"""Images that are copies of others: the same to the pixel, or after mirroring, turning, scaling or compressing.

The threshold follows from the data. Images of one kind lie close together where a data set is dense, so a distance
alone floods the reader with look-alikes. A pair is taken for copies when it is so much closer than the tenth neighbours
of both that ten images at most have such a neighbour by chance, given its intrinsic dimension
(Levina and Bickel 2004, "Maximum likelihood estimation of intrinsic dimension").
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from audit.data.health.signature import Signatures
from audit.data.health.symmetries import symmetric_distances

NEIGHBOURS = 10
CERTAIN = 0.02
"""Pairs this close are copies whatever lies around: the residual of light compression."""
FARTHEST = 0.15
"""Pairs farther apart than this are no copies, however lonely they are; heavy compression (JPEG quality 30) leaves a
residual below it in 97% of Fashion-MNIST's images."""
_RADIUS = 0.09
"""How far apart copies are in the embedding at most: scaling to half and back leaves 95% of them below 0.08."""
_LARGEST_RATIO = 0.4
_EXPECTED = 10.0
"""Images of the whole data set that have a neighbour so near by chance; fewer pairs are accepted, as both members must:
on the 7,000 images of the Fashion-MNIST sample 5, of whose pairs each shows one product."""
_CHANCE = 3e-3
"""The largest chance of an image, however few there are."""
_NEARER = 0.8
"""A candidate is nearer than this share of the distance of the tenth neighbour, in the embedding."""
_FEW_IMAGES = 500
"""Below as many, the tenth neighbour may be of another kind and says little: then pairs within `_CLOSE` are copies."""
_CLOSE = 0.05
"""The residual of JPEG at quality 75 in 95% of Fashion-MNIST's images, and below it none of its 70,000 look-alikes."""
_SAMPLED = 400
_DIMENSIONS = 16
_ASKED = 40
"""Nearest in the projected embedding, among which the ten nearest over all symmetries are looked for."""
_AT_ONCE = 2048


@dataclass(frozen=True)
class Copies:
    """Pairs of images of which one is a copy of the other.

    Attributes:
        pairs: Positions, int64 (P, 2), the smaller first.
        distances: Residual of the best match as a share of the image's contrast, float64 (P,), 0 for exact copies.
        symmetries: How the second is turned into the first, int64 (P,), see `symmetries`.
        exact: Whether all pixels are equal, bool (P,).
        ratio: The largest share of the tenth neighbour's distance at which a pair was accepted; 0 where only certain
            pairs were.
    """

    pairs: NDArray[np.int64]
    distances: NDArray[np.float64]
    symmetries: NDArray[np.int64]
    exact: NDArray[np.bool_]
    ratio: float


def find_copies(signatures: Signatures, progress: Callable[[int], None] = lambda done: None) -> Copies:
    """The copies among images, exact ones first; each exact copy is paired with the first image of its pixels.

    Blank images are left out: they are no copies but broken.

    Args:
        signatures: Of all images, (N,).
        progress: Called with the number of images searched; may raise to stop.
    """
    _, first, group = np.unique(signatures.hashes, return_index=True, return_inverse=True)
    original = first[group]
    later = np.flatnonzero((original != np.arange(len(signatures))) & ~signatures.blank)
    exact = np.stack([original[later], later], axis=1).astype(np.int64)
    unique = np.sort(first[~signatures.blank[first]])
    near, distances, symmetries, ratio = _near_pairs(signatures, unique, progress)
    return Copies(
        pairs=np.concatenate([exact, near]),
        distances=np.concatenate([np.zeros(len(exact)), distances]),
        symmetries=np.concatenate([np.zeros(len(exact), np.int64), symmetries]),
        exact=np.arange(len(exact) + len(near)) < len(exact),
        ratio=ratio,
    )


_Near = tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64], float]


def _near_pairs(signatures: Signatures, unique: NDArray[np.int64], progress: Callable[[int], None]) -> _Near:
    nothing = (np.zeros((0, 2), np.int64), np.zeros(0), np.zeros(0, np.int64), 0.0)
    if len(unique) < 2:
        return nothing
    search = _Search(signatures, unique)
    candidates = search.candidates(progress)
    distances, symmetries = symmetric_distances(signatures.coefficients, candidates)
    close = distances < FARTHEST
    candidates, distances, symmetries = candidates[close], distances[close], symmetries[close]
    ratio = 0.0
    if len(unique) < _FEW_IMAGES:
        accepted = distances < _CLOSE
    else:
        ratio = search.accepted_ratio()
        ratios = distances / np.maximum(search.tenth(candidates), 1e-9) if len(candidates) else distances
        accepted = (distances < CERTAIN) | (ratios < ratio)
    order = np.lexsort((candidates[accepted, 1], candidates[accepted, 0]))
    return candidates[accepted][order], distances[accepted][order], symmetries[accepted][order], ratio


class _Search:
    """Neighbours in the embedding, and their distances over the eight symmetries."""

    def __init__(self, signatures: Signatures, unique: NDArray[np.int64]):
        self.signatures, self.unique = signatures, unique
        mean = signatures.embedding[unique].mean(axis=0, dtype=np.float64)
        parts = [unique[start : start + _AT_ONCE] for start in range(0, len(unique), _AT_ONCE)]

        def centred(rows: NDArray[np.int64]) -> NDArray[np.float64]:
            return np.asarray(signatures.embedding[rows] - mean, np.float64)

        _, axes = np.linalg.eigh(sum(centred(rows).T @ centred(rows) for rows in parts))
        axes = axes[:, ::-1][:, :_DIMENSIONS]
        self.projected = np.concatenate([centred(rows) @ axes for rows in parts])  # a contraction: no neighbour is lost
        self.tree = cKDTree(self.projected)
        self.count = min(NEIGHBOURS + 2, len(unique))

    def candidates(self, progress: Callable[[int], None]) -> NDArray[np.int64]:
        """Pairs of positions within the radius, and nearer than most neighbours of both, int64 (P, 2)."""
        count, found, tenths = len(self.unique), [], np.full(len(self.unique), np.inf)
        for start in range(0, count, _AT_ONCE):
            rows = np.arange(start, min(start + _AT_ONCE, count))
            _, indices = self.tree.query(self.projected[rows], k=self.count, distance_upper_bound=_RADIUS)
            mine, place = np.nonzero((indices < count) & (indices != rows[:, None]))
            pairs = np.stack([rows[mine], indices[mine, place]], axis=1)
            apart = self._apart(pairs)
            full = np.full(indices.shape, np.inf)
            full[mine, place] = apart
            if full.shape[1] > NEIGHBOURS:
                tenths[rows] = np.sort(full, axis=1)[:, NEIGHBOURS - 1]
            close = apart < _RADIUS
            found.append(np.column_stack([np.sort(pairs[close], axis=1), apart[close]]))
            progress(int(rows[-1]) + 1)
        together = np.unique(np.concatenate(found), axis=0)
        pairs, apart = together[:, :2].astype(np.int64), together[:, 2]
        near = (apart < CERTAIN) | (apart < _NEARER * tenths[pairs].min(axis=1))
        chosen: NDArray[np.int64] = self.unique[np.unique(pairs[near], axis=0)]
        return chosen

    def _apart(self, pairs: NDArray[np.int64]) -> NDArray[np.float64]:
        embedding = self.signatures.embedding
        first, second = embedding[self.unique[pairs[:, 0]]], embedding[self.unique[pairs[:, 1]]]
        return np.asarray(np.linalg.norm(first - second, axis=1), np.float64)

    def tenth(self, pairs: NDArray[np.int64]) -> NDArray[np.float64]:
        """The distance of the tenth neighbour, the smaller of both members, float64 (P,)."""
        members, place = np.unique(pairs, return_inverse=True)
        distances = self._neighbour_distances(np.searchsorted(self.unique, members))[:, NEIGHBOURS - 1]
        return np.asarray(distances[place.reshape(pairs.shape)].min(axis=1), np.float64)

    def accepted_ratio(self) -> float:
        """The ratio that `_EXPECTED` images fall below by chance.

        Of k neighbours spread evenly in m dimensions, the nearest is within a share t of the distance of the k-th with
        probability 1 - (1 - t^m)^(k-1). m is the maximum-likelihood estimate from sampled images, whose two nearest
        neighbours are left out as they may be copies.
        """
        rows = np.unique(np.linspace(0, len(self.unique) - 1, _SAMPLED).astype(np.int64))
        distances = np.maximum(self._neighbour_distances(rows)[:, :NEIGHBOURS], 1e-6)
        ranks = np.arange(3, NEIGHBOURS)
        expected = sum(sum(1 / i for i in range(rank, NEIGHBOURS)) for rank in ranks.tolist())
        observed = np.log(distances[:, -1:] / distances[:, ranks - 1]).sum(axis=1).mean()
        dimension = expected / max(float(observed), 1e-9)
        chance = 1 - (1 - min(_EXPECTED / len(self.unique), _CHANCE)) ** (1 / (NEIGHBOURS - 1))
        return min(_LARGEST_RATIO, float(chance ** (1 / dimension)))

    def _neighbour_distances(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Ascending distances of each row's neighbours over all symmetries, float64 (M, at least 10)."""
        count = min(_ASKED, len(self.unique))
        _, indices = self.tree.query(self.projected[rows], k=count)
        pairs = np.stack([np.repeat(rows, count), indices.ravel()], axis=1)
        distances, _ = symmetric_distances(self.signatures.coefficients, self.unique[pairs])
        distances[pairs[:, 0] == pairs[:, 1]] = np.inf
        return np.sort(distances.reshape(len(rows), count), axis=1)
