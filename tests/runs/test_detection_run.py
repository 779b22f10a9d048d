"""The whole audit of a detector: from no file at all, and from a COCO folder with a state dict."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from audit.config import load_config
from audit.core.errors import Interrupted, ModelError, UsageError
from audit.report.history import history
from audit.report.html import render_html
from audit.runs.pipeline import AuditRun, run_audit
from audit.runs.setup import set_up
from tests.made_detectors import torchvision_detector

SMALL: dict[str, Any] = {
    "task": "detection",
    "data": {"source": "detection-shapes:train=64,test=16,size=32,objects=2"},
    "training": {"epochs": 2, "batch_size": 16},
    "corruptions": {"names": ["fog", "elastic-transform"], "severities": [1, 5], "examples": 8},
    "hardening": {"enabled": False},
    "only": ["detection_accuracy", "detection_corruptions"],
}


def run(out: Path, overrides: dict[str, Any], **options: Any) -> AuditRun:
    return run_audit(load_config(overrides=overrides), out, **options)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> AuditRun:
    return run(tmp_path_factory.mktemp("detection") / "run", SMALL)


def test_a_run_without_a_file_trains_a_detector_and_reports_on_it(finished: AuditRun) -> None:
    document: Any = finished.document
    (part,) = document.detection_accuracy
    assert part.images == 16 and part.objects == sum(row.objects for row in part.classes)
    assert {row.name for row in document.detection_corruptions} == {"fog", "elastic-transform"}
    assert {row.name for row in document.detection_corruptions if row.moves} == {"elastic-transform"}
    assert document.models[0].architecture == "fcos-small" and len(document.models[0].history) == 2
    assert 0 <= document.models[0].history[-1]["clean_map"] <= 1
    assert not finished.faults and {f.section for f in document.findings} <= {
        "detection_accuracy",
        "detection_corruptions",
    }
    assert not document.accuracy and not document.robustness


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_page_draws_objects_and_detections(finished: AuditRun, language: str) -> None:
    faults: list[str] = []
    page = render_html(finished.document, language=language, on_fault=faults.append)
    document: Any = finished.document
    assert not faults and 'id="detection_accuracy"' in page and 'id="detection_corruptions"' in page
    drawn = sum(len(shown.boxes) for shown in document.detection_pictures)
    assert page.count('<rect class="line') == page.count('<rect class="casing') == drawn > 0
    assert '<rect class="line truth' in page


def test_the_history_lists_its_map(finished: AuditRun) -> None:
    (listed,) = history(finished.folder.document.parent).rows
    document: Any = finished.document
    (level,) = listed.levels
    assert (level.quantity, level.threat, level.measure, level.n) == ("clean", "", "map", 16)
    assert level.estimate == document.detection_accuracy[0].mean_average_precision.estimate


def test_the_same_run_gives_the_same_bytes(finished: AuditRun, tmp_path: Path) -> None:
    run(tmp_path / "again", SMALL)
    assert (tmp_path / "again" / "audit.json").read_bytes() == finished.folder.document.read_bytes()


def test_a_training_that_is_killed_goes_on_and_ends_in_the_same_weights(finished: AuditRun, tmp_path: Path) -> None:
    def after(calls: int) -> Callable[[], bool]:
        left = iter(range(calls))
        return lambda: next(left, None) is None

    out, killed = tmp_path / "killed", 0
    for calls in (2, 3):
        try:
            run(out, SMALL, should_stop=after(calls))
        except Interrupted:
            killed += any((out / "store").rglob("checkpoint.safetensors"))
    assert killed
    again = run(out, SMALL)
    assert again.folder.document.read_bytes() == finished.folder.document.read_bytes()
    weights = "standard.safetensors"
    assert (out / "models" / weights).read_bytes() == (finished.folder.root / "models" / weights).read_bytes()


def test_the_weights_of_a_run_are_audited_again_as_a_file(finished: AuditRun, tmp_path: Path) -> None:
    model = {"weights": str(finished.folder.root / "models" / "standard.safetensors"), "architecture": "fcos-small"}
    again: Any = run(tmp_path / "run", SMALL | {"model": model, "only": ["detection_accuracy"]}).document
    document: Any = finished.document
    assert again.detection_accuracy[0].mean_average_precision == document.detection_accuracy[0].mean_average_precision


def test_weights_of_a_run_say_which_detector_they_are(finished: AuditRun, tmp_path: Path) -> None:
    weights = str(finished.folder.models / "standard.safetensors")
    alone = {**SMALL, "model": {"weights": weights}, "only": ["detection_accuracy"]}
    assert set_up(load_config(overrides=alone)).config.model.architecture == "fcos-small"
    with pytest.raises(ModelError, match=r"holds a detector \(fcos-small\), and a classifier was expected"):
        set_up(load_config(overrides={"data": {"source": "shapes:train=8,test=8"}, "model": {"weights": weights}}))


def test_attacks_explanations_and_surroundings_are_measured_stored_and_shown(tmp_path: Path) -> None:
    small = {
        **SMALL,
        "only": ["detection_robustness", "detection_explanations", "detection_background"],
        "detection_robustness": {"examples": 4, "steps": 2, "pictures": 1},
        "detection_patch": {"examples": 8, "steps": 2, "pictures": 1},
        "detection_explanations": {"examples": 3, "masks": 16, "steps": 3, "pictures": 1},
        "detection_background": {"examples": 6},
        "robustness": {"curve": [0.01]},
    }
    done = run(tmp_path / "run", small)
    document: Any = done.document
    (part,) = document.detection_attacks
    assert {aim.name for aim in part.aims} == {"vanish", "fabricate", "mislabel", "untargeted", "noise"}
    assert [point.eps for point in part.curve] == pytest.approx([0.0, 0.01, 8 / 255], rel=1e-4)
    assert part.curve[-1].robust.estimate <= min(aim.mean_average_precision.estimate for aim in part.aims) + 1e-9
    assert not any(aim.faults for aim in part.aims)
    (listed,) = history(tmp_path).rows
    scores = {score.quantity: score for score in listed.levels}
    assert (scores["robust"].threat, scores["robust"].measure) == ("linf 8/255", "map")
    assert scores["robust"].estimate == part.curve[-1].robust.estimate
    assert [patch.kind for patch in document.detection_patches] == ["hide", "hide-beside", "fake"]
    assert all((patch.made_on, patch.images, patch.faults) == (4, 4, 0) for patch in document.detection_patches)
    shown = [tuple(picture.kinds) for picture in document.detection_patch_pictures]
    assert shown == [(p.kind, name) for p in document.detection_patches for name in ("clean", p.control, "patch")]
    studies = {entry.study: entry for entry in document.gaps}
    assert set(studies) <= {
        "box-explanation",
        "box-controls",
        "detection-background",
    }  # after two epochs nothing may be found
    faults: list[str] = []
    page = render_html(document, language="zh", on_fault=faults.append)
    assert not faults and 'id="detection_robustness"' in page and 'id="detection-patch"' in page
    again = run(tmp_path / "run", small)
    assert again.document.model_dump() == document.model_dump()


def write_coco(root: Path) -> str:
    """Three images with one bright rectangle each; categories 1 and 7."""
    (root / "images").mkdir(parents=True)
    images, annotations = [], []
    for number in range(3):
        pixels = np.full((32, 48, 3), 40, np.uint8)
        pixels[8:20, 10 + number : 30 + number] = 220
        Image.fromarray(pixels).save(root / "images" / f"{number}.png")
        images.append({"id": number, "file_name": f"{number}.png", "height": 32, "width": 48})
        box = [10 + number, 8, 20, 12]
        annotations.append({"image_id": number, "category_id": (1, 7)[number % 2], "bbox": box, "area": 240})
    categories = [{"id": 1, "name": "cat"}, {"id": 7, "name": "dog"}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (root / "some.json").write_text(json.dumps(content))
    return f"coco:{root / 'some.json'}"


def coco_run(root: Path, architecture: str, weights: str) -> dict[str, Any]:
    return {
        "data": {"source": write_coco(root), "image_size": 48},
        "model": {"architecture": architecture, "weights": weights},
        "only": ["detection_accuracy"],
    }


def test_a_faster_rcnn_state_dict_is_audited_on_a_coco_folder(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = torchvision_detector("fasterrcnn_mobilenet_v3_large_320_fpn", min_size=64)
    torch.save(module.state_dict(), tmp_path / "net.pth")  # four outputs: neither two classes and one, nor eight
    name = "torchvision:fasterrcnn_mobilenet_v3_large_320_fpn:min_size=64"
    with pytest.raises(ModelError, match=r"3 outputs beside the background, the data 2 classes, .* up to 7"):
        run(tmp_path / "run", coco_run(tmp_path / "data", name, str(tmp_path / "net.pth")))
    from torchvision.models import detection

    wide = detection.fasterrcnn_mobilenet_v3_large_320_fpn(weights=None, weights_backbone=None, num_classes=91)
    torch.save(wide.state_dict(), tmp_path / "coco.pth")
    finished = run(tmp_path / "run", coco_run(tmp_path / "other", name, str(tmp_path / "coco.pth")))
    document: Any = finished.document
    assert document.subject.classes == ["cat", "dog"] and document.detection_accuracy[0].images == 3
    assert not finished.faults and "min_size=64" in document.models[0].architecture


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        ({"task": "detection", "data": {"source": "digits"}}, "one label an image"),
        ({"task": "detection", "model": {"architecture": "cnn-28"}}, "classifier's architecture"),
        ({"task": "detection", "data": {"flip": "horizontal"}}, "--flip is for images with one label"),
        ({"task": "detection", "training": {"recipe": "pgd"}}, "does not train a detector"),
        ({"task": "detection", "training": {"augmentation": "jitter"}}, "augmentation none"),
        ({"task": "classification", "data": {"source": "detection-shapes"}}, "has boxes"),
        ({"model": {"architecture": "torchvision:retinanet_nope"}}, "Unknown"),
        (
            {
                "task": "classification",
                "data": {"source": "digits"},
                "model": {"architecture": "torchvision:retinanet_resnet50_fpn"},
            },
            "is a detector's architecture",
        ),
    ],
    ids=["data", "architecture", "flip", "recipe", "augmentation", "classification", "name", "detector"],
)
def test_what_does_not_fit_the_task_is_refused_in_one_sentence(
    overrides: dict[str, Any], sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=sentence):
        run(tmp_path / "run", overrides)


def test_weights_without_their_architecture_are_refused(tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(2)}, tmp_path / "net.pth")
    with pytest.raises(ModelError, match="which detector they belong to"):
        run(tmp_path / "run", coco_run(tmp_path / "data", "auto", str(tmp_path / "net.pth")))


CODE = """
import torch
class Net(torch.nn.Module):
    def forward(self, images):
        boxes = torch.tensor([[10.0, 16.0, 30.0, 28.0]])
        return [{"boxes": boxes, "labels": torch.tensor([0]), "scores": torch.tensor([0.9])} for _ in images]
def net(): return Net()
def classifier(): return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 48 * 48, 2))
"""


def test_a_users_own_detector_is_asked_for_its_boxes(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(CODE)
    overrides = coco_run(tmp_path / "data", "", "")
    overrides["model"] = {"architecture": f"{tmp_path / 'own.py'}:net", "trust": [str(tmp_path / "own.py")]}
    document: Any = run(tmp_path / "run", overrides).document
    assert document.detection_accuracy[0].outcomes["right"] >= 1
    assert document.protocol.trusted[0]["path"] == "own.py"
    overrides["model"]["architecture"] = f"{tmp_path / 'own.py'}:classifier"
    with pytest.raises(ModelError, match="--task classification"):
        set_up(load_config(overrides=overrides))
