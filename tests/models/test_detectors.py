"""The contract of detectors, for every one in `tests.made_detectors`."""

import copy

import pytest
import torch
from torch import Tensor

from audit.core.errors import ModelError, NotApplicable, UsageError
from audit.core.objects import Candidates, Detections
from audit.core.types import Images
from audit.models.detectors.form import DetectorForm
from audit.models.detectors.torchvision_form import TwoStageForm
from audit.models.detectors.under_test import DetectorUnderTest
from tests.made_detectors import (
    DETECTED,
    DETECTOR_SHAPE,
    DETECTORS,
    FAST_DETECTORS,
    noise_images,
    some_objects,
    torchvision_detector,
    wrapped_detector,
)
from tests.pretended_device import ELSEWHERE, PretendedDevice

SOME_SLOW = [name if name in FAST_DETECTORS else pytest.param(name, marks=pytest.mark.slow) for name in DETECTORS]


@pytest.fixture(scope="module", params=SOME_SLOW)
def detector(request: pytest.FixtureRequest) -> DetectorUnderTest:
    return wrapped_detector(request.param)


def same_detections(first: Detections, second: Detections) -> bool:
    return len(first) == len(second) and all(
        torch.allclose(getattr(first, name).float(), getattr(second, name).float(), atol=2e-3)
        for name in ("boxes", "labels", "scores")
    )


def test_detections_are_boxes_by_falling_score_in_pixels_of_the_image(detector: DetectorUnderTest) -> None:
    answers = detector.detect(noise_images(2))
    assert len(answers) == 2 and all(len(found) for found in answers)
    for found in answers:
        assert (found.scores.diff() <= 0).all() and ((found.scores >= 0) & (found.scores <= 1)).all()
        assert (found.boxes[:, 2:] >= found.boxes[:, :2]).all()
        assert found.boxes[:, 0::2].max() <= 64 and found.boxes[:, 1::2].max() <= 48
        assert found.labels.dtype == torch.int64 and found.labels.max() < len(DETECTED)


def test_an_answer_depends_on_no_other_image_of_the_batch(detector: DetectorUnderTest) -> None:
    images, objects = noise_images(3), some_objects(2, 0, 1)
    together, losses = detector.detect(images), detector.losses(images, objects)
    gradient = detector.loss_gradient(images, objects).gradient
    scores = detector.candidates(images)
    for row in range(3):
        alone = slice(row, row + 1)
        assert same_detections(detector.detect(images[alone])[0], together[row])
        assert torch.allclose(detector.losses(images[alone], objects[alone]), losses[alone], rtol=1e-3)
        assert torch.allclose(
            detector.loss_gradient(images[alone], objects[alone]).gradient[0],
            gradient[row],
            atol=float(gradient[row].abs().max()) * 1e-2,
        )
        assert torch.allclose(detector.candidates(images[alone])[0].scores, scores[row].scores, atol=1e-4)


def test_the_same_question_gets_the_same_answer(detector: DetectorUnderTest) -> None:
    images, objects = noise_images(2), some_objects(2, 1)
    first, second = (detector.loss_gradient(images, objects) for _ in range(2))
    assert torch.equal(first.values, second.values) and torch.equal(first.gradient, second.gradient)
    before = torch.random.get_rng_state()
    once, again = detector.detect(images), detector.detect(images)
    assert all(torch.equal(a.boxes, b.boxes) for a, b in zip(once, again, strict=True))
    assert torch.equal(before, torch.random.get_rng_state())


def test_images_forwarded_and_back_propagated_are_counted(detector: DetectorUnderTest) -> None:
    images, objects = noise_images(3), some_objects(1, 0, 2)
    with detector.count() as spent:
        detector.detect(images)
        detector.losses(images[:2], objects[:2])
        detector.loss_gradient(images, objects)
        detector.candidates(images[:1])
    assert (spent.forwards, spent.backwards) == (9, 3)


def test_the_state_is_left_as_found_even_after_a_failure(detector: DetectorUnderTest) -> None:
    before = copy.deepcopy(detector.form.state_dict())
    flags = [layer.training for layer in detector.form.modules()]
    hooks = [len(layer._forward_hooks) for layer in detector.form.modules()]
    detector.loss_gradient(noise_images(1), some_objects(1))
    with pytest.raises(ZeroDivisionError):
        detector.candidate_gradient(noise_images(1), lambda candidates, rows: candidates[0].scores / (1 // 0))
    assert [layer.training for layer in detector.form.modules()] == flags
    assert [len(layer._forward_hooks) for layer in detector.form.modules()] == hooks
    assert all(torch.equal(value, before[name]) for name, value in detector.form.state_dict().items())
    assert not any(p.requires_grad or p.grad is not None for p in detector.form.parameters())


def test_the_gradient_of_an_objective_is_its_slope(detector: DetectorUnderTest) -> None:
    def surest(candidates: list[Candidates], rows: slice) -> Tensor:
        return torch.stack([some.scores.log().mean() for some in candidates])

    images = noise_images(2)
    answer = detector.candidate_gradient(images, surest)
    assert torch.allclose(answer.values, surest(detector.candidates(images), slice(0, 2)), rtol=1e-3)
    assert (answer.gradient.flatten(1).norm(dim=1) > 0).all()
    if isinstance(detector.form, TwoStageForm):  # other proposals on other images: no slope leads there
        return
    slope = float(answer.gradient[0].norm())
    length = min(0.02, 4e-5 / slope)  # so short that the curvature of a deep net does not count
    step = torch.zeros_like(images)
    step[0] = answer.gradient[0] / slope * length
    ahead, back = (surest(detector.candidates(images + sign * step), slice(0, 2)) for sign in (1, -1))
    assert (ahead - back)[0] / (2 * length) == pytest.approx(slope, rel=0.1)
    assert torch.allclose(ahead[1], back[1], atol=1e-5)


@pytest.mark.parametrize("name", SOME_SLOW)
def test_losses_are_as_sensitive_to_the_objects_as_to_the_images(name: str) -> None:
    detector, images = wrapped_detector(name), noise_images(1)
    with_objects, without = (detector.losses(images, some_objects(count)) for count in (2, 0))
    assert with_objects.isfinite().all() and without.isfinite().all()
    assert not torch.allclose(with_objects, without)


@pytest.mark.parametrize("name", FAST_DETECTORS)
def test_no_images_get_no_answers(name: str) -> None:
    detector = wrapped_detector(name)
    nothing = noise_images(0)
    assert detector.detect(nothing) == [] and detector.candidates(nothing) == []
    assert detector.losses(nothing, []).shape == (0,)
    assert detector.loss_gradient(nothing, []).gradient.shape == (0, *DETECTOR_SHAPE)


@pytest.mark.parametrize("name", FAST_DETECTORS)
def test_out_of_memory_halves_the_batch_and_keeps_the_answer(name: str) -> None:
    detector, images = wrapped_detector(name), noise_images(3)
    expected = detector.detect(images)
    detect, detector.layout.batch_size = detector.form.detect, 4

    def tight(some: Images) -> list[Detections]:
        if len(some) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return detect(some)

    detector.form.detect = tight  # type: ignore[method-assign, assignment]
    assert all(same_detections(a, b) for a, b in zip(detector.detect(images), expected, strict=True))
    assert detector.layout.batch_size == 1


@pytest.mark.parametrize("name", FAST_DETECTORS)
def test_nothing_is_made_on_another_device_than_the_images(name: str) -> None:
    form, images, objects = DETECTORS[name](), noise_images(1), some_objects(2)
    here = DetectorUnderTest(form, classes=DETECTED, input_shape=DETECTOR_SHAPE, device="cpu")
    expected = here.detect(images)[0], here.losses(images, objects), here.candidates(images)[0].scores
    with PretendedDevice():
        there = DetectorUnderTest(form, classes=DETECTED, input_shape=DETECTOR_SHAPE, device=ELSEWHERE)
        found, losses, candidates = there.detect(images)[0], there.losses(images, objects), there.candidates(images)[0]
        assert found.boxes.device == losses.device == candidates.scores.device == ELSEWHERE
        assert same_detections(Detections(found.boxes.cpu(), found.labels.cpu(), found.scores.cpu()), expected[0])
        assert torch.allclose(candidates.scores.cpu(), expected[2], atol=1e-4)


def test_the_users_module_is_never_touched() -> None:
    from audit.models.detectors.class_map import ClassMap
    from audit.models.detectors.torchvision_form import torchvision_form

    module = torchvision_detector("ssdlite320_mobilenet_v3_large").train()
    before = copy.deepcopy(module.state_dict())
    form = torchvision_form(module, ClassMap.after_background(len(DETECTED)))
    wrapped = DetectorUnderTest(form, classes=DETECTED, input_shape=DETECTOR_SHAPE, device="cpu")
    wrapped.loss_gradient(noise_images(1), some_objects(1))
    assert module.training and all(p.requires_grad for p in module.parameters())
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_the_fingerprint_follows_the_weights() -> None:
    form = DETECTORS["fcos-small"]()
    changed = copy.deepcopy(form)
    with torch.no_grad():
        next(changed.parameters()).add_(1e-3)
    prints = {
        DetectorUnderTest(some, classes=DETECTED, input_shape=DETECTOR_SHAPE, device="cpu").fingerprint()
        for some in (form, copy.deepcopy(form), changed)
    }
    assert len(prints) == 2


class Answers(DetectorForm):
    """Answers with the same boxes to every image."""

    gives_losses = gives_candidates = gives_gradients = False

    def __init__(self, boxes: list[list[float]], labels: list[int], scores: list[float]) -> None:
        super().__init__()
        self.answer = Detections(torch.tensor(boxes), torch.tensor(labels), torch.tensor(scores))

    def detect(self, images: Images) -> list[Detections]:
        return [self.answer for _ in images]


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (Answers([[0.0, 0, 5, 5]], [3], [0.5]), "a label that is none of the 3 classes"),
        (Answers([[0.0, 0, 5, 5]], [0], [1.5]), r"scores are not in \[0, 1\]"),
        (Answers([[9.0, 0, 5, 5]], [0], [0.5]), "inverted"),
        (Answers([[0.0, 0, 5, float("nan")]], [0], [0.5]), "not finite"),
        (Answers([[0.0, 0, 5, 5], [0.0, 0, 5, 5]], [0], [0.5]), r"boxes \(2, 4\)"),
    ],
    ids=["label", "score", "inverted", "nan", "sizes"],
)
def test_what_are_no_detections_is_refused_in_one_sentence(answer: Answers, sentence: str) -> None:
    with pytest.raises(ModelError, match=sentence):
        DetectorUnderTest(answer, classes=DETECTED, input_shape=DETECTOR_SHAPE, device="cpu")


def test_a_black_box_has_neither_losses_nor_candidates() -> None:
    detector = DetectorUnderTest(
        Answers([[0.0, 0, 5, 5], [1.0, 1, 5, 5]], [0, 1], [0.5, 0.7]),
        classes=DETECTED,
        input_shape=DETECTOR_SHAPE,
        device="cpu",
    )
    assert detector.detect(noise_images(1))[0].labels.tolist() == [1, 0]
    with pytest.raises(NotApplicable, match="losses"):
        detector.losses(noise_images(1), some_objects(1))
    with pytest.raises(NotApplicable, match="suppression"):
        detector.candidates(noise_images(1))
    with pytest.raises(UsageError, match="one entry an image"):
        detector.losses(noise_images(1), some_objects(1, 1))
