"""Attacks on detectors: the ball, the box, what each aim does to the boxes, and the verifier."""

from __future__ import annotations

import math

import pytest
import torch

from audit.adversarial.detection_aims import DetectionObjective
from audit.adversarial.detection_verify import verify_detections
from audit.core.detection_aim import DetectionAim
from audit.core.errors import AuditError, NotApplicable
from audit.core.objects import Candidates, Objects
from audit.core.registry import find, methods
from audit.core.seeding import Generators
from audit.core.threat import ThreatModel
from audit.core.types import Batch
from audit.models.detectors.under_test import DetectorUnderTest
from tests.made_detectors import (
    DETECTED,
    DETECTOR_SHAPE,
    DETECTORS,
    noise_images,
    some_objects,
    wrapped_detector,
)
from tests.pretended_device import on_both

NAMES = [method.name for method in methods("detection-attack") if method.facts["norms"]]
AIMS_BY_HAND = ["vanish", "fabricate", "mislabel", "untargeted"]
AIMS: tuple[DetectionAim, ...] = ("untargeted", "vanish", "fabricate", "mislabel")
LINF = ThreatModel("linf", 8 / 255)


def _batch(*counts: int) -> Batch:
    images = noise_images(len(counts))
    ids = tuple(f"image {i}" for i in range(len(counts)))
    labels = torch.zeros(len(counts), dtype=torch.long)
    return Batch(images, labels, ids, objects=tuple(some_objects(*counts)))


def _generators(batch: Batch) -> Generators:
    return Generators.of(batch.ids, seed=0, purpose="attack", device="cpu")


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("name", NAMES)
def test_contract(name: str, norm: str) -> None:
    """Proposals obey the threat, are the same again, cost what was said, and leave the detector as it was."""
    detector, batch, method = wrapped_detector("fcos-small"), _batch(2, 0, 1), find("detection-attack", name)
    threat = ThreatModel(norm, {"linf": 8 / 255, "l2": 1.0, "l1": 10.0}[norm])  # type: ignore[arg-type]
    settings = {**method.settings(), **({"steps": 3} if "steps" in method.defaults else {})}
    before = detector.fingerprint()
    with detector.count() as counter:
        proposals = method.function(detector, batch, threat, _generators(batch), **settings)
    assert bool(threat.allows(proposals, batch.images).all())
    assert float((proposals - batch.images).abs().max()) > 0
    again = method.function(detector, batch, threat, _generators(batch), **settings)
    assert torch.equal(proposals, again)
    most = method.max_passes(settings, detector.input_shape)
    assert most is not None
    assert counter.forwards <= 3 * most.forwards
    assert counter.backwards <= 3 * most.backwards
    assert detector.fingerprint() == before


@pytest.mark.parametrize("name", NAMES)
def test_another_device_gives_the_same_proposals(name: str) -> None:
    method, batch = find("detection-attack", name), _batch(2, 1)
    settings = {**method.settings(), **({"steps": 2} if "steps" in method.defaults else {})}

    def proposals(device: torch.device) -> torch.Tensor:
        form = DETECTORS["fcos-small"]()
        detector = DetectorUnderTest(form, classes=DETECTED, input_shape=DETECTOR_SHAPE, device=device)
        draws = Generators(_generators(batch).keys.to(device))
        images: torch.Tensor = method.function(detector, batch, LINF, draws, **settings)
        return images.to(device)

    here, there = on_both(proposals)
    assert ((here - there).abs() < 1e-3).float().mean() > 0.98


@pytest.mark.parametrize("aim", AIMS)
def test_an_image_is_attacked_alone_as_it_is_among_others(aim: DetectionAim) -> None:
    detector, batch, tog = wrapped_detector("fcos-small"), _batch(1, 2, 1), find("detection-attack", "tog").function
    together = tog(detector, batch, LINF, _generators(batch), aim=aim, steps=2)
    assert batch.objects is not None
    only = Batch(batch.images[1:2], batch.labels[1:2], batch.ids[1:2], objects=batch.objects[1:2])
    alone = tog(detector, only, LINF, _generators(only), aim=aim, steps=2)
    assert float(((alone[0] - together[1]).abs() > 1e-4).float().mean()) < 0.01  # rounding may turn a sign


@pytest.mark.parametrize("aim", AIMS)
@pytest.mark.parametrize("name", ["fcos-small", "fasterrcnn"])
def test_the_value_of_each_aim_rises(name: str, aim: DetectionAim) -> None:
    detector, batch = wrapped_detector(name), _batch(2, 1)
    assert batch.objects is not None
    objective, rows = DetectionObjective(detector, batch.objects, aim), torch.arange(2)
    proposals = find("detection-attack", "tog").function(detector, batch, LINF, _generators(batch), aim=aim, steps=3)
    before, after = objective.values(batch.images, rows), objective.values(proposals, rows)
    assert bool((after > before).all())


def _fixed(boxes: list[list[float]], scores: list[list[float]]) -> list[Candidates]:
    return [Candidates(torch.tensor(boxes), torch.tensor(scores))]


@pytest.mark.parametrize(
    ("aim", "expected"),
    [
        ("vanish", math.log(0.8 * 0.9 * 0.5 * 0.7)),
        ("fabricate", -math.log(0.5 * 0.7)),
        ("mislabel", math.log(0.1 * 0.8)),
        ("untargeted", math.log(0.8) - math.log(0.5 * 0.7)),
    ],
    ids=AIMS_BY_HAND,
)
def test_values_of_candidates_by_hand(aim: DetectionAim, expected: float) -> None:
    """One box on the object of class 0 with scores .2 and .1, one elsewhere with .5 and .3."""
    there = Objects(torch.tensor([[0.0, 0, 10, 10]]), torch.tensor([0]), torch.tensor([100.0]), torch.tensor([False]))
    detector = wrapped_detector("fcos-small")
    objective = DetectionObjective(detector, [there], aim)._of_candidates([there])
    found = _fixed([[0, 0, 10, 9], [30, 30, 40, 40]], [[0.2, 0.1], [0.5, 0.3]])
    assert float(objective(found, slice(0, 1))[0]) == pytest.approx(expected, rel=1e-5)


def test_a_vanished_image_leaves_the_search() -> None:
    """Where no box scores .05 there is nothing to do: the image costs one gradient."""
    detector, batch = wrapped_detector("fcos-small"), _batch(1)
    with torch.no_grad():
        detector.form.classifier.bias.fill_(-20.0)  # type: ignore[union-attr, operator]
    with detector.count() as counter:
        find("detection-attack", "tog").function(detector, batch, LINF, _generators(batch), aim="vanish", steps=10)
    assert (counter.forwards, counter.backwards) == (1, 1)


def test_one_class_cannot_be_mislabelled() -> None:
    from audit.models.zoo.fcos_small import fcos_small

    shape = (3, 48, 64)
    one = DetectorUnderTest(fcos_small(1, shape), classes=("thing",), input_shape=shape, device="cpu")
    batch = _batch(1)
    with pytest.raises(NotApplicable, match="knows one class"):
        find("detection-attack", "tog").function(one, batch, LINF, _generators(batch), aim="mislabel")


def test_the_verifier_brings_back_what_left_the_ball_and_detects_anew() -> None:
    detector, batch = wrapped_detector("fcos-small"), _batch(1, 1)
    proposals = batch.images.clone()
    proposals[0] += 0.5
    verified = verify_detections(detector, batch.images, proposals, LINF)
    assert verified.faults.tolist() == [True, False]
    assert bool(LINF.allows(verified.images, batch.images).all())
    expected = detector.detect(verified.images)
    assert all(torch.equal(a.boxes, b.boxes) for a, b in zip(verified.found, expected, strict=True))
    assert float(verified.distance[1]) == 0.0
    with pytest.raises(AuditError, match="one proposal an example"):
        verify_detections(detector, batch.images, proposals[:1], LINF)
