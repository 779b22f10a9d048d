"""Attributions of found boxes: against plain loops, finite differences and what a detector is wired to look at."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from audit.core.objects import Detections
from audit.core.registry import find, methods
from audit.core.seeding import Generators
from audit.explanation.box_gradients import one_row_a_box
from audit.explanation.detection_targets import log_odds_of, still_found
from audit.masking.soft_masks import draw_soft_masks
from audit.metrics.detection_errors import iou
from audit.models.detectors.under_test import DetectorUnderTest
from tests.made_detectors import DETECTED, DETECTOR_SHAPE, DETECTORS, noise_images, wrapped_detector
from tests.pretended_device import on_both

NAMES = [method.name for method in methods("detection-attribution")]
FEW = {"d-rise": {"samples": 8}, "box-smooth-grad": {"samples": 2}}


def _targets(found: list[Detections], *counts: int) -> list[Detections]:
    return [Detections(some.boxes[:n], some.labels[:n], some.scores[:n]) for some, n in zip(found, counts, strict=True)]


def _generators(count: int) -> Generators:
    return Generators.of([str(i) for i in range(count)], seed=0, purpose="maps", device="cpu")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("detector_name", ["fcos-small", "fasterrcnn"])
def test_contract(name: str, detector_name: str) -> None:
    """Shapes, finite values, determinism, the cost it declares, and independence of the other images."""
    detector, images, method = wrapped_detector(detector_name), noise_images(2), find("detection-attribution", name)
    settings = {**method.settings(), **FEW.get(name, {})}
    targets = _targets(detector.detect(images), 1, 2)
    before = detector.fingerprint()
    with detector.count() as counter:
        maps = method.function(detector, images, targets, _generators(2), **settings)
    assert [tuple(some.shape) for some in maps] == [(n, *DETECTOR_SHAPE[1:]) for n in (1, 2)]
    assert all(bool(some.isfinite().all()) for some in maps)
    assert bool(maps[0].any())
    again = method.function(detector, images, targets, _generators(2), **settings)
    assert all(torch.equal(a, b) for a, b in zip(maps, again, strict=True))
    most = [method.facts["passes"](settings, DETECTOR_SHAPE, boxes) for boxes in (1, 2)]
    assert counter.forwards <= sum(passes.forwards for passes in most)
    assert counter.backwards <= sum(passes.backwards for passes in most)
    alone = method.function(detector, images[1:], targets[1:], Generators(_generators(2).keys[1:]), **settings)
    torch.testing.assert_close(alone[0], maps[1], rtol=1e-3, atol=1e-5 * float(maps[1].abs().max()))
    assert detector.fingerprint() == before


@pytest.mark.parametrize("name", NAMES)
def test_another_device_gives_the_same_maps(name: str) -> None:
    method, images = find("detection-attribution", name), noise_images(2)
    settings = {**method.settings(), **FEW.get(name, {})}
    targets = _targets(wrapped_detector("fcos-small").detect(images), 1, 1)

    def maps(device: torch.device) -> Tensor:
        form = DETECTORS["fcos-small"]()
        detector = DetectorUnderTest(form, classes=DETECTED, input_shape=DETECTOR_SHAPE, device=device)
        there = [Detections(t.boxes.to(device), t.labels.to(device), t.scores.to(device)) for t in targets]
        draws = Generators(_generators(2).keys.to(device))
        return torch.cat(method.function(detector, images, there, draws, **settings))

    here, there = on_both(maps)
    torch.testing.assert_close(here, there, rtol=1e-3, atol=1e-4 * float(here.abs().max()))


def test_d_rise_equals_a_plain_loop_over_the_same_masks() -> None:
    detector, image = wrapped_detector("fcos-small"), noise_images(1)
    (target,) = _targets(detector.detect(image), 3)
    generators = _generators(1)
    fast = find("detection-attribution", "d-rise").function(detector, image, [target], generators, samples=60)[0]
    masks = draw_soft_masks(generators, 60, DETECTOR_SHAPE[1:], 8, 0.5).enlarge(
        slice(None), torch.empty(60, *DETECTOR_SHAPE[1:])
    )
    weighted, total = torch.zeros(fast.shape, dtype=torch.float64), torch.zeros(masks.shape[1:]).double()
    mean = torch.zeros(len(target), dtype=torch.float64)
    for mask in masks:
        shown = mask * image + (1 - mask) * image.mean((2, 3), keepdim=True)
        (found,) = detector.detect(shown)
        similarity = _slow_similarity(target, found)
        weighted += similarity[:, None, None] * mask
        total += mask
        mean += similarity / len(masks)
    slow = weighted / total - mean[:, None, None]
    torch.testing.assert_close(fast.double(), slow, rtol=0, atol=1e-6)


def _slow_similarity(targets: Detections, found: Detections) -> Tensor:
    overlap = iou(targets.boxes.numpy(), found.boxes.numpy())
    best = [
        max([0.0, *(overlap[t, j] * float(found.scores[j]) for j in range(len(found)) if found.labels[j] == label)])
        for t, label in enumerate(targets.labels)
    ]
    return torch.tensor(best, dtype=torch.float64)


def test_similarity_counts_overlap_class_and_score() -> None:
    box = torch.tensor([[0.0, 0.0, 10.0, 10.0]])
    target = Detections(box, torch.tensor([1]), torch.tensor([0.9]))
    half = torch.tensor([[0.0, 0.0, 10.0, 20.0]])
    images = [
        Detections(half, torch.tensor([1]), torch.tensor([0.8])),
        Detections(box, torch.tensor([0]), torch.tensor([1.0])),
        Detections(box[:0], torch.zeros(0, dtype=torch.long), torch.zeros(0)),
        Detections(torch.cat([box, half]), torch.tensor([1, 1]), torch.tensor([0.3, 0.9])),
    ]
    torch.testing.assert_close(still_found(target, images), torch.tensor([[0.4, 0.0, 0.0, 0.45]]))


@pytest.mark.parametrize("detector_name", ["fcos-small", "fasterrcnn"])
def test_the_gradient_is_that_of_the_log_odds(detector_name: str) -> None:
    """Along a random direction the log-odds change as the gradient says, by central differences."""
    detector, images = wrapped_detector(detector_name), noise_images(1).clamp(0.05, 0.95)
    _, (target,) = one_row_a_box(_targets(detector.detect(images), 1))
    objective = log_odds_of([target])
    gradient = detector.candidate_gradient(images, objective).gradient.double()
    direction = gradient / gradient.norm()
    step = 1e-3 if detector_name == "fcos-small" else 3e-4
    high, low = (
        objective(detector.candidates(images + sign * step * direction.float()), slice(0, 1)).double()
        for sign in (1, -1)
    )
    assert float((high - low) / (2 * step)) == pytest.approx(float(gradient.norm()), rel=0.1)


def test_grad_cam_equals_its_equations_on_the_last_layer() -> None:
    """On a detector of one map the layer is the one before the heads; weights and map are computed by hand."""
    detector, images = wrapped_detector("fcos-small"), noise_images(1)
    targets = _targets(detector.detect(images), 1)
    ours = find("detection-attribution", "box-grad-cam").function(detector, images, targets, _generators(1))[0][0]
    form = detector.form
    features = form._features(images).detach().requires_grad_(True)  # type: ignore[operator]
    found = form.candidates(images)[0]
    scores = found.scores[:, int(targets[0].labels[0])]
    overlap = torch.from_numpy(iou(found.boxes.detach().numpy(), targets[0].boxes.numpy())[:, 0])
    best = int((overlap * scores).argmax())
    logits = form.classifier(features).flatten(2)[0, int(targets[0].labels[0])]  # type: ignore[operator]
    (gradient,) = torch.autograd.grad(logits[best], features)
    raw = (gradient.mean((2, 3), keepdim=True) * features).sum(1, keepdim=True).clamp(min=0).detach()
    large = functional.interpolate(raw, size=DETECTOR_SHAPE[1:], mode="bilinear", align_corners=False)[0, 0]
    torch.testing.assert_close(ours, large / large.max(), rtol=1e-4, atol=1e-5)


def test_saliency_is_nothing_outside_what_the_box_depends_on() -> None:
    """The log-odds of a detector whose features see a patch alone do not depend on the other pixels."""
    detector, images = wrapped_detector("fcos-small"), noise_images(1)
    targets = _targets(detector.detect(images), 1)
    kept = torch.zeros(1, 1, *DETECTOR_SHAPE[1:])
    kept[..., 10:30, 20:40] = 1
    features = detector.form._features
    detector.form._features = lambda seen: features(seen * kept)  # type: ignore[operator, assignment]
    saliency = find("detection-attribution", "box-saliency").function(detector, images, targets, _generators(1))[0]
    assert float((saliency * (1 - kept[0])).abs().max()) == 0.0
    assert float(saliency.abs().max()) > 0.0
    assert np.isfinite(float(saliency.max()))


def test_an_image_without_boxes_costs_nothing() -> None:
    detector, images = wrapped_detector("fcos-small"), noise_images(1)
    nothing = _targets(detector.detect(images), 0)
    for method in methods("detection-attribution"):
        with detector.count() as counter:
            (maps,) = method.function(detector, images, nothing, _generators(1))
        assert maps.shape == (0, *DETECTOR_SHAPE[1:])
        assert (counter.forwards, counter.backwards) == (0, 0)
