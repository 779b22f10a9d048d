"""Every wrong argument gets one sentence; a method without meaning gets a reason."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from audit.core.errors import UsageError
from audit.explanation.run import explain_images
from audit.masking import segmentation
from audit.masking.segmentation import segment_images
from audit.models.under_test import ModelUnderTest

SEGMENTS = torch.arange(36).view(6, 6) // 6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "salience"}, r"Unknown attribution 'salience'. Did you mean 'saliency'\? Known: .*grad-cam"),
        ({"method": "lime", "sample": 3}, "Unknown setting of attribution lime 'sample'. Did you mean 'samples'"),
        ({"method": "lime", "samples": "many"}, "Setting 'samples' of attribution 'lime'"),
        ({"targets": 3}, "Target 3 is out of range: the model has 3 classes, 0 to 2"),
        ({"targets": [0, 1, -1, 2]}, "Target -1 is out of range"),
        ({"targets": [0, 1]}, "2 targets were given for 4 images"),
        ({"targets": torch.rand(4)}, "class numbers"),
        ({"output": "logits"}, "Unknown output 'logits'. Did you mean 'logit'"),
        ({"method": "integrated-gradients", "baseline": torch.zeros(3, 5, 5)}, "baseline has shape"),
        ({"method": "integrated-gradients", "baseline": "black"}, "Unknown baseline 'black'"),
        ({"method": "integrated-gradients", "baseline": float("nan")}, "not finite"),
        ({"method": "lime", "segments": torch.zeros(5, 5, dtype=torch.int64)}, "segments have shape"),
        ({"method": "lime", "segments": torch.zeros(6, 6)}, "must be integers"),
        ({"ids": ["a"]}, "1 id was given for 4 images"),
    ],
)
def test_wrong_argument_is_one_sentence(
    linear: ModelUnderTest, images: Tensor, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        explain_images(linear, images, **{"method": "saliency", **options})
    assert "\n" not in str(caught.value)


def test_images_outside_the_box_or_of_another_shape_are_refused(linear: ModelUnderTest, images: Tensor) -> None:
    for wrong in (images * 255, images * float("nan"), images[:0], images[:, :1], images[0]):
        with pytest.raises(UsageError):
            explain_images(linear, wrong, method="saliency")


class Rounded(nn.Module):
    """Quantises its input, so that gradients are zero; `detached` cuts the graph instead."""

    def __init__(self, detached: bool) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 3))
        self.detached = detached

    def forward(self, images: Tensor) -> Tensor:
        steps = images.detach() if self.detached else (images * 8).round() / 8
        scores: Tensor = self.net(steps)
        return scores


@pytest.mark.parametrize("detached", [False, True])
def test_model_without_gradients_runs_black_box_methods_only(images: Tensor, detached: bool) -> None:
    torch.manual_seed(1)
    model = ModelUnderTest(Rounded(detached), classes="abc", input_shape=(2, 6, 6), device="cpu")
    for name in ("saliency", "integrated-gradients"):
        found = explain_images(model, images, method=name)
        assert found.status == "not_applicable"
        assert "no gradient" in str(found.reason)
    for name in ("lime", "shap"):
        assert explain_images(model, images, method=name).status == "measured"


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (3, 96, 64), (4, 16, 16)])
@pytest.mark.parametrize("kind", ["noise", "blank", "blob"])
def test_default_segments_are_contiguous_and_at_least_five(shape: tuple[int, int, int], kind: str) -> None:
    from skimage.measure import label

    image = {"noise": torch.rand(shape), "blank": torch.zeros(shape), "blob": torch.zeros(shape)}[kind]
    if kind == "blob":
        image[:, 4:10, 5:12] = 0.8
    segments = segment_images(image[None]).segments[0].numpy()
    assert segments.min() == 0
    assert segments.max() + 1 >= 5
    assert len(set(segments.ravel().tolist())) == segments.max() + 1
    assert label(segments + 1, connectivity=1).max() == segments.max() + 1
    if shape[1] == 28:
        assert segments.max() + 1 <= 12


def test_segmentations_of_fewer_than_five_pieces_are_said(linear: ModelUnderTest, images: Tensor) -> None:
    """A blank image is refined; the user's own pieces stay as they are, with a word about them."""
    plain = images.clone()
    plain[0] = 0.5
    found = explain_images(linear, plain, method="shap", targets=0)
    assert found.segments is not None and int(found.segments[0].max()) + 1 >= 5
    assert re.search(
        r"^slic, .* segments an image; [1-4] refined, which gave fewer than 5$", str(found.facts["segments"])
    )
    own = explain_images(linear, images, method="shap", targets=0, segments=SEGMENTS // 2)
    assert str(own.facts["segments"]) == "given, 3 segments an image; fewer than 5 say little about where"
    assert "fewer" not in str(
        explain_images(linear, images, method="shap", targets=0, segments=SEGMENTS).facts["segments"]
    )


def test_segments_may_carry_any_numbers_and_differ_by_image(linear: ModelUnderTest, images: Tensor) -> None:
    strange = SEGMENTS * 10 - 7
    each = torch.stack([strange, strange, SEGMENTS.T, SEGMENTS])
    plain = explain_images(linear, images, method="shap", segments=SEGMENTS, targets=0)
    mixed = explain_images(linear, images, method="shap", segments=each, targets=0)
    assert torch.allclose(plain.attributions[:2], mixed.attributions[:2], atol=1e-6)
    assert torch.allclose(plain.attributions[3], mixed.attributions[3], atol=1e-6)
    assert len(mixed.attributions[2, 0].unique(dim=1)[0]) == 6


def test_images_are_segmented_once_and_described_from_that(
    linear: ModelUnderTest, images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Any] = []
    slic, plain = segmentation._slic, torch.cat([images, torch.full_like(images[:1], 0.5)])

    def counted(*given: Any) -> Any:
        made.append(given)
        return slic(*given)

    monkeypatch.setattr(segmentation, "_slic", counted)
    words = segment_images(plain).description
    once = len(made)
    found = explain_images(linear, plain, method="shap", targets=0)
    assert len(made) == 2 * once
    assert found.facts["segments"] == words and re.search("; [1-5] refined", str(words))
