"""Detectors of transformers, from local folders: DETR, RT-DETR, YOLOS and their kin."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from audit.core.errors import ModelError, one_line
from audit.core.note import note
from audit.core.objects import Candidates, Detections, Objects
from audit.core.seeding import fork_global_rng
from audit.core.types import Images
from audit.models.detectors.build import DetectorClasses
from audit.models.detectors.class_map import ClassMap
from audit.models.detectors.form import DetectorForm
from audit.models.formats.hf_config import configuration, folder_of, read_preprocessing
from audit.models.formats.hf_folder import HF_DETECTORS, build_transformers
from audit.models.loaded import InputShape

_MOST = 100
_LEAST_SCORE = 0.01


def read_detector_folder(weights: str, classes: DetectorClasses, input_shape: InputShape) -> DetectorForm:
    """The detector of hf:FOLDER.

    Args:
        weights: hf:FOLDER.
        classes: The classes of the data.
        input_shape: (C, H, W) of the images.

    Raises:
        ModelError: It is no detector, or not of these classes.
    """
    folder = folder_of(weights)
    config = configuration(folder)
    module = build_transformers(folder, config, HF_DETECTORS)
    preprocessing = read_preprocessing(weights)
    names = {int(key): str(name) for key, name in dict(config.get("id2label") or {}).items()}
    labels = int(getattr(module.config, "num_labels", len(names)))
    form = TransformersForm(
        module,
        _class_map(names, labels, classes, folder.name),
        size=_working_size(folder, input_shape),
        mean=preprocessing.mean or (0.0,) * input_shape[0],
        std=preprocessing.std or (1.0,) * input_shape[0],
    )
    form.notes = (
        note(
            "detector_transformers",
            "{name} runs in transformers ({kind}); the form resizes images to {height}x{width} as its preprocessor "
            "says.",
            name=folder.name,
            kind=str(config["model_type"]),
            height=form.size[0],
            width=form.size[1],
        ),
    )
    return form


class TransformersForm(DetectorForm):
    """A detector whose queries each answer with class logits and one box; nothing is suppressed.

    Args:
        module: The model of transformers.
        class_map: What its labels stand for.
        size: (height, width) that it is given.
        mean: Of each channel.
        std: Of each channel.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        module: nn.Module,
        class_map: ClassMap,
        *,
        size: tuple[int, int],
        mean: Sequence[float],
        std: Sequence[float],
    ) -> None:
        super().__init__()
        self.detector: Any = module
        self.class_map, self.size = class_map, size
        self.register_buffer("mean", torch.tensor(mean, device="cpu").view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std, device="cpu").view(1, -1, 1, 1), persistent=False)

    def detect(self, images: Images) -> list[Detections]:
        """The hundred surest pairs of a query and a class; of a model with a "no object" class, one class a query.

        Args:
            images: Float32 (N, C, H, W) in [0, 1].
        """
        answers = self.detector(pixel_values=self._prepared(images))
        scores, exclusive = self._own_scores(answers.logits)
        boxes = self._corners(answers.pred_boxes, images)
        return [self._surest(own, some, exclusive) for own, some in zip(boxes, scores, strict=True)]

    def candidates(self, images: Images) -> list[Candidates]:
        """The box of each query with the scores of all classes.

        Args:
            images: Float32 (N, C, H, W) in [0, 1].
        """
        answers = self.detector(pixel_values=self._prepared(images))
        scores = self.class_map.scores(self._own_scores(answers.logits)[0])
        boxes = self._corners(answers.pred_boxes, images)
        return [Candidates(own, some) for own, some in zip(boxes, scores, strict=True)]

    def losses(self, images: Images, objects: Sequence[Objects]) -> Tensor:
        """The model's own loss, an image at a time: transformers averages over the boxes of the batch.

        Args:
            images: Float32 (N, C, H, W) in [0, 1].
            objects: What is there in each; may be none.

        Returns:
            Float32 (N,).
        """
        prepared, parts = self._prepared(images), []
        sides = torch.tensor([images.shape[3], images.shape[2]] * 2, device=images.device)
        for row, there in enumerate(objects):
            real = ~there.crowd
            corners = there.boxes[real] / sides
            middle, span = (corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]
            labels = {"class_labels": self.class_map.labels(there.labels[real]), "boxes": torch.cat([middle, span], 1)}
            with fork_global_rng(images.device, "queries"):
                parts.append(self.detector(pixel_values=prepared[row : row + 1], labels=[labels]).loss)
        return torch.stack(parts) if parts else images.new_zeros(0)

    def working_pixels(self, height: int, width: int) -> int:
        """The pixels after resizing.

        Args:
            height: Of the images it is given.
            width: Of the images it is given.
        """
        return self.size[0] * self.size[1]

    def _prepared(self, images: Images) -> Images:
        if tuple(images.shape[2:]) != self.size:
            images = interpolate(images, self.size, mode="bilinear", antialias=True, align_corners=False)
        return (images - self.mean) / self.std

    def _own_scores(self, logits: Tensor) -> tuple[Tensor, bool]:
        """The score of each label, and whether the labels of a query exclude each other, "no object" among them."""
        labels = len(self.class_map.outputs)
        if logits.shape[-1] == labels + 1:
            return logits.softmax(-1)[..., :-1], True
        return logits.sigmoid(), False

    def _corners(self, boxes: Tensor, images: Images) -> Tensor:
        sides = torch.tensor([images.shape[3], images.shape[2]] * 2, device=boxes.device)
        middle, span = boxes[..., :2], boxes[..., 2:]
        return torch.cat([middle - span / 2, middle + span / 2], -1) * sides

    def _surest(self, boxes: Tensor, scores: Tensor, exclusive: bool) -> Detections:
        if exclusive:
            values, labels = scores.max(1)
            rows = torch.arange(len(values), device=values.device)
        else:
            values, order = scores.flatten().topk(min(_MOST, scores.numel()))
            rows, labels = order // scores.shape[1], order % scores.shape[1]
        positions = self.class_map.positions(labels)
        known = (positions >= 0) & (values >= _LEAST_SCORE)
        return Detections(boxes[rows[known]], positions[known], values[known])


def _class_map(names: Mapping[int, str], labels: int, classes: DetectorClasses, folder: str) -> ClassMap:
    """By name; by number where the names are none, or the annotations count as the model does."""
    by_name = {name.lower(): position for position, name in enumerate(classes.names)}
    named = [by_name.get(names.get(own, "").lower()) for own in range(labels)]
    if any(position is not None for position in named):
        return ClassMap.of(named, classes.names)
    if labels == len(classes.names):
        return ClassMap.of(range(labels), classes.names)
    ids = classes.category_ids
    if ids is not None and max(ids) < labels:
        return ClassMap.of([ids.index(own) if own in ids else None for own in range(labels)], classes.names)
    raise ModelError(
        f"{folder} has {labels} labels ({', '.join(list(names.values())[:3])}, ...), none of which is among the data's "
        f"{len(classes.names)} classes ({', '.join(classes.names[:3])}, ...): give data of its classes."
    )


def _working_size(folder: Path, shape: InputShape) -> tuple[int, int]:
    """The (height, width) that preprocessor_config.json asks for; that of the images without one."""
    path = folder / "preprocessor_config.json"
    if not path.is_file():
        return shape[1:]
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
        size = settings.get("size") if settings.get("do_resize", True) else None
        if not size:
            return shape[1:]
        if isinstance(size, int):
            size = {"shortest_edge": size, "longest_edge": int(settings.get("max_size", 1333))}
        if "height" in size:
            return int(size["height"]), int(size["width"])
        scale = int(size["shortest_edge"]) / min(shape[1:])
        scale = min(scale, int(size.get("longest_edge", 1333)) / max(shape[1:]))
        return round(shape[1] * scale), round(shape[2] * scale)
    except (ValueError, KeyError, TypeError, AttributeError) as fault:
        raise ModelError(f"{folder.name}/{path.name} does not say a size ({one_line(fault)}).") from fault
