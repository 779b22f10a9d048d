"""The queue gives what a plain loop gives, asks nothing twice, and survives a full memory."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from audit.core.types import Batch
from audit.masking import evaluate as evaluation
from audit.masking.baselines import fill_images
from audit.masking.cache import MaskCache, concatenate_caches
from audit.masking.evaluate import evaluate_masked
from audit.masking.queue import MaskQueue, first_of_each
from audit.models.under_test import ModelUnderTest


@pytest.fixture
def segments() -> Tensor:
    rows = torch.arange(12) // 4
    grid = rows[:, None] * 3 + rows[None]
    return torch.stack([grid, grid.T, (grid // 3), grid, grid])


@pytest.fixture
def queue(cnn_model: ModelUnderTest, cnn_batch: Batch, segments: Tensor) -> MaskQueue:
    images = cnn_batch.images[:5]
    return MaskQueue(
        cnn_model, images, torch.full_like(images, 0.2), segments, lambda logits, owners: logits[:, 0] + owners
    )


def ask_slowly(queue: MaskQueue, owners: Tensor, masks: Tensor) -> Tensor:
    found = []
    for owner, mask in zip(owners.tolist(), masks, strict=True):
        image = queue.baseline[owner].clone()
        for number, shown in enumerate(mask.tolist()):
            if shown:
                inside = queue.segments[owner] == number
                image[:, inside] = queue.images[owner][:, inside]
        found.append(queue.model.logits(image[None])[0, 0] + owner)
    return torch.stack(found)


def test_scores_are_those_of_a_plain_loop(queue: MaskQueue) -> None:
    generator = torch.Generator().manual_seed(0)
    owners = torch.randint(5, (60,), generator=generator)
    masks = torch.rand(60, 9, generator=generator) < 0.5
    assert torch.allclose(queue.scores(owners, masks), ask_slowly(queue, owners, masks), atol=1e-5)


@pytest.mark.parametrize("channels_last", [False, True])
def test_composites_hold_either_pixel_to_the_bit(channels_last: bool) -> None:
    generator = torch.Generator().manual_seed(3)
    images, baseline = (torch.rand(2, 3, 17, 13, generator=generator) * 10 ** (8 * power - 4) for power in (0, 1))
    masks = torch.rand(7, 17 * 13, generator=generator) < 0.5
    owners = [0, 0, 1, 1, 1, 0, 1]
    if channels_last:
        images = images.to(memory_format=torch.channels_last)
    model = ModelUnderTest(nn.Flatten(), classes=[str(i) for i in range(663)], input_shape=(3, 17, 13), device="cpu")
    model.layout.batch_size = 4
    found: list[Tensor] = []

    def write_masks(owner: int, part: slice, out: Tensor) -> None:
        assert owners[part] == [owner] * (part.stop - part.start)
        out.copy_(masks[part])

    def score_rows(logits: Tensor, part: slice) -> Tensor:
        found.append(logits)
        return logits[:, 0]

    evaluate_masked(model, baseline, images, owners, write_masks, score_rows)
    shown = masks.view(7, 1, 17, 13)
    assert torch.equal(torch.cat(found).view(7, 3, 17, 13), torch.where(shown, images[owners], baseline[owners]))


def test_different_masks_are_those_that_numpy_finds() -> None:
    masks = torch.rand(400, 11, generator=torch.Generator().manual_seed(0)) < 0.2
    assert first_of_each(masks).tolist() == np.unique(masks.numpy(), axis=0, return_index=True)[1].tolist()


def test_a_failed_forward_leaves_the_queue_as_it_was(queue: MaskQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    owners, masks = torch.zeros(6, dtype=torch.int64), torch.eye(6, 9).bool()
    queue.scores(owners[:2], masks[:2])

    def refuse(images: Tensor) -> Tensor:
        raise RuntimeError("planted")

    with monkeypatch.context() as patched:
        patched.setattr(queue.model.module, "forward", refuse)
        with pytest.raises(RuntimeError, match="planted"):
            queue.scores(owners, masks)
    assert len(queue) == 2
    assert torch.allclose(queue.scores(owners, masks), ask_slowly(queue, owners, masks), atol=1e-5)


def test_duplicates_are_forwarded_once_within_and_between_calls(queue: MaskQueue) -> None:
    owners = torch.tensor([0, 0, 1, 0, 2])
    masks = torch.zeros(5, 9, dtype=torch.bool)
    masks[1, 3] = True
    masks[4, 7] = True  # image 2 has three segments alone: column 7 means nothing there
    with queue.model.count() as spent:
        first = queue.scores(owners, masks)
    assert spent.forwards == 4
    with queue.model.count() as spent:
        again = queue.scores(torch.tensor([2, 1, 3]), torch.zeros(3, 9, dtype=torch.bool))
    assert spent.forwards == 1
    assert again[0] == first[4]
    assert again[1] == first[2]
    assert len(queue) == 5


def test_full_memory_halves_the_batch_and_changes_nothing(
    queue: MaskQueue, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    owners = torch.arange(5).repeat_interleave(8)
    masks = torch.rand(40, 9, generator=torch.Generator().manual_seed(1)) < 0.5
    expected = ask_slowly(queue, owners, masks)
    forward = queue.model.module.forward

    def cramped(images: Tensor) -> Tensor:
        if len(images) > 7:
            raise torch.OutOfMemoryError("planted")
        return forward(images)

    monkeypatch.setattr(queue.model.module, "forward", cramped)
    assert torch.allclose(queue.scores(owners, masks), expected, atol=1e-5)
    assert queue.model.layout.batch_size <= 7
    assert "Out of memory" in caplog.text


def test_failure_leaves_nothing_half_known(queue: MaskQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    owners, masks = torch.tensor([0, 1]), torch.ones(2, 9, dtype=torch.bool)

    def broken(images: Tensor) -> Tensor:
        raise ValueError("planted")

    with monkeypatch.context() as patched:
        patched.setattr(queue.model.module, "forward", broken)
        with pytest.raises(ValueError, match="planted"):
            queue.scores(owners, masks)
    assert torch.allclose(queue.scores(owners, masks), ask_slowly(queue, owners, masks), atol=1e-5)


def test_segment_mean_is_each_segments_mean(queue: MaskQueue) -> None:
    filled = fill_images(queue.images, "segment-mean", queue.segments)
    for image, stand_in, segments in zip(queue.images, filled, queue.segments, strict=True):
        for number in segments.unique():
            inside = segments == number
            assert torch.allclose(stand_in[0][inside], image[0][inside].mean().expand(int(inside.sum())), atol=1e-6)


def test_blur_keeps_constants_and_the_mean_of_the_middle(queue: MaskQueue) -> None:
    constant = torch.full((1, 2, 9, 11), 0.4)
    assert torch.allclose(fill_images(constant, "blur"), constant, atol=1e-6)
    point = torch.zeros(1, 1, 41, 41)
    point[0, 0, 20, 20] = 1
    spread = fill_images(point, "blur")[0, 0]
    rows = torch.arange(41.0) - 20
    assert float(spread.sum()) == pytest.approx(1, abs=1e-3)
    assert float((spread.sum(1) * rows**2).sum()) == pytest.approx(4.1**2, rel=0.05)


def test_small_images_are_composed_some_batches_ahead_and_judged_in_their_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The batch halves within what was composed, and a part past it is composed anew."""
    module = nn.Sequential(nn.Flatten(), nn.Linear(4, 2, bias=False))
    model = ModelUnderTest(module, classes=("a", "b"), input_shape=(1, 2, 2), device="cpu")
    model.layout.batch_size = 4
    monkeypatch.setattr(evaluation, "_COMPOSED_AHEAD", 4 * 10)
    numbers, asked, sizes = torch.arange(23.0) / 23, [], []

    def compose(part: slice) -> torch.Tensor:
        asked.append((part.start, part.stop))
        return numbers[part].view(-1, 1, 1, 1).expand(-1, 1, 2, 2).contiguous()

    def forward(images: torch.Tensor) -> torch.Tensor:
        sizes.append(len(images))
        if len(sizes) == 2:
            raise MemoryError
        return images.flatten(1)[:, :2]

    monkeypatch.setattr(model.module, "forward", forward)
    found = evaluation.evaluate(model, 23, compose, lambda logits, part: logits[:, 0] + torch.arange(23.0)[part])
    assert torch.equal(found, numbers + torch.arange(23.0))
    assert asked == [(0, 8), (8, 18), (18, 23)]
    assert sizes == [4, 4, *[2] * 9, 1]


def test_one_pair_is_one_whatever_the_width_it_is_asked_with(queue: MaskQueue) -> None:
    """Image 2 has three segments, the others nine: asked alone its masks fit a byte, beside the others two."""
    mask = torch.tensor([[True, False, True]])
    first = queue.scores(torch.tensor([2]), mask)
    with queue.model.count() as spent:
        again = queue.scores(torch.tensor([2]), torch.nn.functional.pad(mask, (0, 6), value=1))
    assert spent.passes.forwards == 0 and torch.equal(first, again) and len(queue) == 1


def test_another_queue_recalls_what_one_learned(queue: MaskQueue) -> None:
    generator = torch.Generator().manual_seed(0)
    owners = torch.randint(5, (60,), generator=generator)
    masks = torch.rand(60, 9, generator=generator) < 0.5
    known = queue.scores(owners, masks)
    for owner in (0, 2):
        queue.offer_samples(owner, masks[owners == owner][:3, : queue.sizes[owner]])
    answers = concatenate_caches([queue.answers().part(slice(0, 2)), queue.answers().part(slice(2, 5))])
    other = MaskQueue(queue.model, queue.images, queue.baseline, queue.segments, queue.score)
    other.preload(MaskCache.of(answers.arrays()))
    for owner in range(5):
        assert torch.equal(other.offered_samples(owner), queue.offered_samples(owner))
    with queue.model.count() as spent:
        assert torch.equal(other.scores(owners, masks), known)
    assert spent.passes.forwards == 0 and other.reused == len(queue) == answers.counts.sum()
    other.scores(owners[:1], ~masks[:1])
    assert other.reused == len(queue) == len(other) - 1


def test_a_stretch_of_images_recalls_its_own(queue: MaskQueue) -> None:
    owners = torch.arange(5)
    masks = torch.eye(9)[:5].bool()
    known = queue.scores(owners, masks)
    part = slice(2, 4)
    other = MaskQueue(
        queue.model, queue.images[part], queue.baseline[part], queue.segments[part], lambda logits, owners: logits[:, 0]
    )
    other.preload(queue.answers().part(part))
    assert torch.equal(other.scores(torch.arange(2), masks[part]), known[part]) and other.reused == 2


def test_masks_that_are_offered_without_outputs_are_asked(queue: MaskQueue) -> None:
    masks = torch.eye(9).bool()
    queue.scores(torch.zeros(9, dtype=torch.int64), masks)
    queue.offer_samples(0, masks)
    other = MaskQueue(queue.model, queue.images, queue.baseline, queue.segments, queue.score)
    other.preload(queue.answers(), outputs=False)
    assert torch.equal(other.offered_samples(0), queue.offered_samples(0)) and len(other) == 0
