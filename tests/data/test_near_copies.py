"""Planted copies are found and told how they were made; look-alikes are left alone."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from planted import COPIES, Pixels, garments

from audit.data.dataset import Split
from audit.data.health import signature
from audit.data.health.near_copies import find_copies
from audit.data.health.signature import embedding_of, sign_splits, signatures_of
from audit.data.health.symmetries import COUNT, changed, changed_pixels, symmetric_distances


def pairs_of(images: Pixels) -> set[tuple[int, int]]:
    found = find_copies(signatures_of(images[:, None]))
    return {(int(first), int(second)) for first, second in found.pairs}


@pytest.mark.parametrize("kind", list(COPIES))
def test_three_percent_of_planted_copies_are_all_found_and_nothing_else(kind: str) -> None:
    images, _ = garments()
    sources = np.random.default_rng(1).permutation(len(images))[: round(0.03 * len(images))]
    copies = np.stack([COPIES[kind](images[source]) for source in sources])
    planted = {(int(source), len(images) + number) for number, source in enumerate(sources)}
    assert pairs_of(np.concatenate([images, copies])) - pairs_of(images) == planted


def test_look_alikes_of_clean_data_are_left_alone() -> None:
    images, _ = garments()
    assert len(pairs_of(images)) <= 3  # at most as many as are expected by chance


@pytest.mark.parametrize("symmetry", range(COUNT))
def test_a_turned_copy_is_turned_back(symmetry: int) -> None:
    image = garments()[0][7:8]
    turned = changed_pixels(image, symmetry)[0]
    signatures = signatures_of(np.stack([turned, image[0]])[:, None])
    distances, found = symmetric_distances(signatures.coefficients, np.array([[0, 1]]))
    assert distances[0] < 2e-3
    assert np.array_equal(changed_pixels(image, int(found[0]))[0], turned)


def test_coefficients_turn_as_pixels_do() -> None:
    image = garments()[0][3:4]
    before = signatures_of(image[:, None]).coefficients.astype(np.float32)
    for symmetry in range(COUNT):
        pixels = signatures_of(changed_pixels(image, symmetry)[:, None]).coefficients.astype(np.float32)
        assert np.abs(changed(before, symmetry) - pixels).max() < 1e-3


def test_the_embedding_never_moves_a_copy_away() -> None:
    """The filter of candidates is a contraction: no farther apart than the blurred coefficients of any symmetry."""
    draw = np.random.default_rng(0).normal(size=(2, 40, 16, 16)).astype(np.float32)
    for first, second in zip(*draw, strict=True):
        low = [part[:8, :8] * signature._WEIGHT for part in (first, second)]
        for part in low:
            part[0, 0] = 0
        raw = [np.sort(np.abs(np.stack([part, part.T])), axis=0) for part in low]
        apart = np.sqrt(((raw[0] - raw[1]) ** 2).sum() / 2)
        nearest = min(np.linalg.norm(low[0] - s * t) for t in (low[1], low[1].T) for s in _signs())
        assert apart <= nearest + 1e-5
    norms = np.linalg.norm(embedding_of(draw[0]), axis=1)
    assert np.allclose(norms, 1, atol=1e-6)


def _signs() -> list[NDArray[np.float64]]:
    alternate = np.where(np.arange(8) % 2, -1.0, 1.0)
    return [np.outer(a, b) for a in (np.ones(8), alternate) for b in (np.ones(8), alternate)]


def test_blank_images_are_no_copies() -> None:
    images = np.concatenate([np.full((5, 1, 28, 28), 9, np.uint8), garments()[0][:60, None]])
    signatures = signatures_of(images)
    assert signatures.blank.tolist() == [True] * 5 + [False] * 60
    assert not len(find_copies(signatures).pairs)


def test_a_copy_repeated_many_times_is_found_each_time() -> None:
    images, _ = garments()
    repeated = np.concatenate([images[:200], np.repeat(images[:1], 30, axis=0)])
    found = find_copies(signatures_of(repeated[:, None]))
    assert {tuple(pair) for pair in found.pairs[found.exact].tolist()} == {(0, number) for number in range(200, 230)}


def test_photographs_in_colour_of_other_shapes_are_compared() -> None:
    draw = np.random.default_rng(0)
    images = np.kron(draw.integers(0, 255, (80, 3, 6, 9)), np.ones((1, 1, 8, 8))).astype(np.uint8)
    images[79] = images[3][:, :, ::-1]
    assert [tuple(pair) for pair in find_copies(signatures_of(images)).pairs.tolist()] == [(3, 79)]


def test_splits_read_in_chunks_give_what_all_images_at_once_give() -> None:
    images = garments()[0][:50, None]
    draw = np.random.default_rng(3)
    wide = draw.integers(0, 255, (11, 3, 700, 700), np.uint8)  # a chunk of 4 million values holds two
    for stack, cut in ((images, 17), (wide, 5)):
        asked: list[int] = []

        def split(part: NDArray[np.uint8], asked: list[int] = asked) -> Split:
            def fetch(index: NDArray[np.int64]) -> NDArray[np.uint8]:
                asked.append(len(index))
                return part[index]

            return Split(np.zeros(len(part), np.int64), tuple(map(str, range(len(part)))), fetch, "")

        whole, seen = signatures_of(stack), list[int]()
        parts = sign_splits([split(stack[:cut]), split(stack[cut:]), split(stack[:0])], seen.append)
        for name, values in vars(whole).items():
            assert np.array_equal(values, getattr(parts, name)) and values.dtype == getattr(parts, name).dtype
        assert seen[-1] == len(stack)
    assert max(asked) == 2
