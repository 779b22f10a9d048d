import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from audit.core.errors import ModelError
from audit.models.detectors.build import DetectorClasses
from audit.models.detectors.transformers_form import read_detector_folder
from audit.models.detectors.under_test import DetectorUnderTest
from tests.made_detectors import DETECTED, DETECTOR_SHAPE, noise_images, some_objects

transformers: Any = pytest.importorskip("transformers")
NAMES = {0: "N/A", 1: "circle", 2: "square", 3: "triangle"}


def small_resnet() -> Any:
    return transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16, 16, 16], depths=[1, 1, 1, 1], out_features=["stage4"]
    )


def yolos() -> Any:
    config = transformers.YolosConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, image_size=[32, 64],
        num_detection_tokens=10, id2label=NAMES,
    )  # fmt: skip
    return transformers.YolosForObjectDetection(config)


def detr() -> Any:
    config = transformers.DetrConfig(
        use_timm_backbone=False, use_pretrained_backbone=False, backbone=None, backbone_config=small_resnet(),
        d_model=16, encoder_layers=1, decoder_layers=1, encoder_ffn_dim=16, decoder_ffn_dim=16, num_queries=10,
        encoder_attention_heads=2, decoder_attention_heads=2, id2label=dict(enumerate(DETECTED)),
    )  # fmt: skip
    return transformers.DetrForObjectDetection(config)


def rt_detr() -> Any:
    backbone = transformers.RTDetrResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16, 16, 16], depths=[1, 1, 1, 1], layer_type="basic",
        out_features=["stage2", "stage3", "stage4"],
    )  # fmt: skip
    config = transformers.RTDetrConfig(
        backbone_config=backbone, encoder_hidden_dim=16, encoder_in_channels=[16, 16, 16], d_model=16, num_queries=10,
        feat_strides=[8, 16, 32], encoder_ffn_dim=16, decoder_ffn_dim=16, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, decoder_in_channels=[16, 16, 16], id2label=NAMES,
    )  # fmt: skip
    return transformers.RTDetrForObjectDetection(config)


MODELS = {"yolos": yolos, "detr": detr, "rt_detr": rt_detr}


def folder_of(kind: str, tmp_path: Path) -> str:
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        MODELS[kind]().save_pretrained(tmp_path / kind)
    settings = {"size": {"height": 32, "width": 64}, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.2, 0.2, 0.2]}
    (tmp_path / kind / "preprocessor_config.json").write_text(json.dumps(settings))
    return f"hf:{tmp_path / kind}"


@pytest.mark.parametrize("kind", MODELS)
def test_a_folder_of_transformers_is_a_detector_under_test(kind: str, tmp_path: Path) -> None:
    form = read_detector_folder(folder_of(kind, tmp_path), DetectorClasses(DETECTED), DETECTOR_SHAPE)
    detector = DetectorUnderTest(form, classes=DETECTED, input_shape=DETECTOR_SHAPE, device="cpu")
    images, objects = noise_images(2), some_objects(2, 0)
    found, candidates = detector.detect(images), detector.candidates(images)
    assert len(found[0]) and candidates[0].scores.shape == (10, 3)
    for box, label, score in zip(found[0].boxes, found[0].labels, found[0].scores, strict=True):
        same = (candidates[0].boxes - box).abs().amax(1) < 1e-3
        assert (candidates[0].scores[same, label] - score).abs().min() < 1e-5
    answer = detector.loss_gradient(images, objects)
    assert answer.values.isfinite().all() and (answer.gradient.flatten(1).norm(dim=1) > 0).all()
    again = detector.loss_gradient(images[1:], objects[1:])
    assert torch.allclose(again.values, answer.values[1:], rtol=1e-4)
    again = detector.loss_gradient(images[:1], objects[:1])
    assert torch.allclose(again.values, answer.values[:1], rtol=1e-4)


def test_scores_and_boxes_are_those_of_the_models_own_processor(tmp_path: Path) -> None:
    form = read_detector_folder(folder_of("yolos", tmp_path), DetectorClasses(DETECTED), DETECTOR_SHAPE)
    detector = DetectorUnderTest(form, classes=DETECTED, input_shape=DETECTOR_SHAPE, device="cpu")
    images = noise_images(1)
    resized = torch.nn.functional.interpolate(images, (32, 64), mode="bilinear", antialias=True)
    with torch.no_grad():
        answers = form.detector(pixel_values=(resized - 0.5) / 0.2)
    probabilities = answers.logits[0].softmax(-1)[:, :-1]
    best, labels = probabilities.max(1)
    known = labels > 0  # 0 is N/A
    order = best[known].argsort(descending=True)
    found = detector.detect(images)[0]
    assert torch.allclose(found.scores, best[known][order], atol=1e-5)
    assert torch.equal(found.labels, labels[known][order] - 1)
    x, y, w, h = answers.pred_boxes[0][known][order].unbind(1)
    expected = torch.stack([(x - w / 2) * 64, (y - h / 2) * 48, (x + w / 2) * 64, (y + h / 2) * 48], 1)
    assert torch.allclose(found.boxes, expected, atol=1e-3)


def test_a_folder_of_other_classes_or_of_a_classifier_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="none of which is among the data's 2 classes"):
        read_detector_folder(folder_of("yolos", tmp_path), DetectorClasses(("zebra", "yak")), DETECTOR_SHAPE)
    config = transformers.ViTConfig(
        hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8, image_size=16
    )
    transformers.ViTForImageClassification(config).save_pretrained(tmp_path / "vit")
    with pytest.raises(ModelError, match="an object detector was expected"):
        read_detector_folder(f"hf:{tmp_path / 'vit'}", DetectorClasses(DETECTED), DETECTOR_SHAPE)
