import copy

import pytest
import torch

from audit.core.errors import ModelError
from audit.core.objects import Objects
from audit.models.detectors.class_map import ClassMap
from audit.models.detectors.torchvision_form import torchvision_form
from audit.models.detectors.under_test import DetectorUnderTest
from tests.made_detectors import DETECTED, DETECTOR_SHAPE, noise_images, some_objects, torchvision_detector

SETTINGS = {"fcos_resnet50_fpn": {"min_size": 64}, "retinanet_resnet50_fpn": {"min_size": 64}}
ONE_STAGE = (
    "ssdlite320_mobilenet_v3_large",
    *(pytest.param(name, marks=pytest.mark.slow) for name in ("retinanet_resnet50_fpn", "fcos_resnet50_fpn")),
)


def wrap(module: torch.nn.Module) -> DetectorUnderTest:
    form = torchvision_form(module, ClassMap.after_background(len(DETECTED)))
    return DetectorUnderTest(form, classes=DETECTED, input_shape=DETECTOR_SHAPE, device="cpu")


@pytest.mark.parametrize("name", ONE_STAGE)
def test_losses_and_detections_are_torchvisions_own_of_each_image_alone(name: str) -> None:
    images, objects = noise_images(2), some_objects(2, 1)
    detector = wrap(torchvision_detector(name, **SETTINGS.get(name, {})))
    module = copy.deepcopy(detector.form.detector)
    detector.layout.batch_size = 1
    losses, answers = detector.losses(images, objects), detector.detect(images)
    for image, there, loss, found in zip(images, objects, losses, answers, strict=True):
        module.train()
        for layer in module.modules():
            if isinstance(layer, torch.nn.BatchNorm2d):  # frozen, as a detector is fine-tuned
                layer.eval()
        with torch.no_grad():
            own = module([image], [{"boxes": there.boxes, "labels": there.labels + 1}])
            module.eval()
            answer = module([image])[0]
        assert loss.item() == pytest.approx(sum(part.item() for part in own.values()), rel=1e-5)
        assert torch.equal(found.boxes, answer["boxes"]) and torch.equal(found.labels + 1, answer["labels"])


@pytest.mark.parametrize("name", [*ONE_STAGE, "fasterrcnn_mobilenet_v3_large_320_fpn"])
def test_each_detection_is_a_candidate_of_at_least_its_score(name: str) -> None:
    detector = wrap(torchvision_detector(name, **SETTINGS.get(name, {})))
    found, candidates = detector.detect(noise_images(1))[0], detector.candidates(noise_images(1))[0]
    assert len(found) and len(candidates) > len(found)
    for box, label, score in zip(found.boxes[:10], found.labels, found.scores, strict=False):
        near = (candidates.boxes - box).abs().amax(1) < 0.5
        if name.startswith("fasterrcnn"):  # a candidate has the box of its best class alone
            near &= candidates.scores.argmax(1) == label
            if not near.any():
                continue
        assert candidates.scores[near, label].sub(score).abs().min() < 1e-4


def test_crowds_and_flat_boxes_do_not_count_in_a_loss() -> None:
    detector, images = wrap(torchvision_detector("ssdlite320_mobilenet_v3_large")), noise_images(1)
    (plain,) = some_objects(2)
    flat = torch.tensor([[5.0, 5, 5, 9]])
    crowd = Objects(
        torch.cat([plain.boxes, plain.boxes[:1] + 3, flat]),
        torch.cat([plain.labels, torch.tensor([0, 0])]),
        torch.cat([plain.areas, torch.tensor([9.0, 0.0])]),
        torch.tensor([False, False, True, False]),
    )
    assert torch.equal(detector.losses(images, [plain]), detector.losses(images, [crowd]))


def test_classes_with_gaps_are_translated_both_ways() -> None:
    module = torchvision_detector("ssdlite320_mobilenet_v3_large")
    two = ("circle", "triangle")
    form = torchvision_form(module, ClassMap.of((None, 0, None, 1), two))
    detector = DetectorUnderTest(form, classes=two, input_shape=DETECTOR_SHAPE, device="cpu")
    all_three, images = wrap(module), noise_images(1)
    found, every = detector.detect(images)[0], all_three.detect(images)[0]
    known = every.labels != 1
    assert 0 < len(found) < len(every)
    assert torch.equal(found.boxes, every.boxes[known]) and torch.equal(found.labels * 2, every.labels[known])
    assert torch.equal(detector.candidates(images)[0].scores, all_three.candidates(images)[0].scores[:, [0, 2]])
    (objects,) = some_objects(1)
    as_triangle = [Objects(objects.boxes, torch.tensor([label]), objects.areas, objects.crowd) for label in (1, 2)]
    assert torch.equal(detector.losses(images, as_triangle[:1]), all_three.losses(images, as_triangle[1:]))


@pytest.mark.parametrize(
    ("outputs", "sentence"), [((None, 0), "no output for 1 of the data's 2"), ((0, 1, 1), "several outputs")]
)
def test_a_map_without_a_class_is_refused(outputs: tuple[int | None, ...], sentence: str) -> None:
    with pytest.raises(ModelError, match=sentence):
        ClassMap.of(outputs, ("cat", "dog"))


def test_a_classifier_is_no_detector() -> None:
    with pytest.raises(ModelError, match="none of torchvision's detectors"):
        torchvision_form(torch.nn.Conv2d(3, 3, 3), ClassMap.after_background(1))
