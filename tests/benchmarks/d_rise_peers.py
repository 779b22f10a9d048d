"""D-RISE of one image's boxes by us and by xaitk-saliency, at the same number of masks: CPU seconds in turn.

Beside them the detector alone on as many masked images, which both have to wait for: what remains is each one's own.

    python tests/benchmarks/d_rise_peers.py --weights detector.safetensors --masks 500 --rounds 3

The detector is `fcos-small` on `detection-shapes`; both ask it for batches of the same size
unless `--their-batch 1` is given, what that library's own detectors take by default. xaitk-saliency is not
among the extras: `pip install xaitk-saliency`.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Hashable, Iterable, Iterator
from itertools import islice
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from audit.attributions.detection.d_rise import d_rise
from audit.core.objects import Detections
from audit.core.seeding import Generators
from audit.data.load import load_dataset
from audit.masking.soft_masks import draw_soft_masks
from audit.models.detectors.under_test import DetectorUnderTest
from audit.models.zoo.fcos_small import fcos_small


def detector_of(weights: str, classes: tuple[str, ...], shape: tuple[int, int, int]) -> DetectorUnderTest:
    """The detector with stored weights."""
    form = fcos_small(len(classes), shape)
    form.load_state_dict(load_file(weights))
    return DetectorUnderTest(form, classes=classes, input_shape=shape, device="cpu")


def theirs(
    detector: DetectorUnderTest, image: torch.Tensor, targets: Detections, masks: int, cells: int, batch: int
) -> np.ndarray:
    """The maps of xaitk-saliency's `DRISEStack`, (T, H, W)."""
    from smqtk_detection.interfaces.detect_image_objects import DetectImageObjects
    from smqtk_image_io.bbox import AxisAlignedBoundingBox
    from xaitk_saliency.impls.gen_object_detector_blackbox_sal.drise import DRISEStack

    class Wrapped(DetectImageObjects):
        def detect_objects(
            self, img_iter: Iterable[np.ndarray]
        ) -> Iterator[list[tuple[AxisAlignedBoundingBox, dict[Hashable, float]]]]:
            images = iter(img_iter)
            while part := list(islice(images, batch)):
                stacked = torch.from_numpy(np.stack(part)).movedim(3, 1).float() / 255
                for found in detector.detect(stacked):
                    yield [
                        (
                            AxisAlignedBoundingBox(box[:2], box[2:]),
                            {k: float(score) if k == label else 0.0 for k in range(len(detector.classes))},
                        )
                        for box, label, score in zip(
                            found.boxes.numpy(), found.labels.tolist(), found.scores.tolist(), strict=True
                        )
                    ]

        def get_config(self) -> dict[str, Any]:
            return {}

    scores = np.zeros((len(targets), len(detector.classes)))
    scores[np.arange(len(targets)), targets.labels.numpy()] = targets.scores.numpy()
    pixels = np.rint(image.movedim(0, 2).numpy() * 255).astype(np.uint8)
    stack = DRISEStack(n=masks, s=cells, p1=0.5, seed=0, fill=[int(value) for value in pixels.mean((0, 1))])
    maps: np.ndarray = stack.generate(pixels, targets.boxes.numpy(), scores, Wrapped())
    return maps


def main() -> None:
    """Time both in turn and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--masks", type=int, default=500)
    parser.add_argument("--cells", type=int, default=8)
    parser.add_argument("--their-batch", type=int, default=0, help="as many images a forward as we take, by default")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    data = load_dataset("detection-shapes:train=2,test=20")
    detector = detector_of(given.weights, data.classes, data.shape)
    images = data.test.batch(slice(None)).images
    found = detector.detect(images)
    chosen = max(range(len(found)), key=lambda row: int((found[row].scores > 0.5).sum()))
    count = int((found[chosen].scores > 0.5).sum())
    targets = Detections(*(getattr(found[chosen], name)[:count] for name in ("boxes", "labels", "scores")))
    generators = Generators.of(["image"], seed=0, purpose="benchmark", device="cpu")

    def ours() -> np.ndarray:
        settings = {"samples": given.masks, "cells": given.cells}
        return d_rise(detector, images[chosen : chosen + 1], [targets], generators, **settings)[0].numpy()

    batch = given.their_batch or detector.layout.batch_size
    height, width = data.shape[1:]
    drawn = draw_soft_masks(generators, given.masks, (height, width), given.cells, 0.5)
    shown = drawn.enlarge(slice(None), torch.empty(given.masks, height, width))[:, None]
    mean = images[chosen].mean((1, 2), keepdim=True)
    masked = torch.lerp(mean, images[chosen], shown)

    def detector_alone() -> np.ndarray:
        for start in range(0, given.masks, detector.layout.batch_size):
            detector.detect(masked[start : start + detector.layout.batch_size])
        return np.zeros(0)

    ways: dict[str, Callable[[], np.ndarray]] = {
        "audit": ours,
        "the detector alone": detector_alone,
        "xaitk-saliency": lambda: theirs(detector, images[chosen], targets, given.masks, given.cells, batch),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    maps: dict[str, np.ndarray] = {}
    for _ in range(given.rounds + 1):
        for name, way in ways.items():
            start = time.process_time()
            maps[name] = way()
            seconds[name].append(time.process_time() - start)
    medians = {name: statistics.median(times[1:]) for name, times in seconds.items()}
    print(f"{count} boxes, {given.masks} masks, {torch.get_num_threads()} threads; first round left out")
    for name, median in medians.items():
        print(f"{name}: {median:.3f} s of CPU")
    shared, own, their_own = (medians[name] for name in ("the detector alone", "audit", "xaitk-saliency"))
    print(f"ratio {own / their_own:.2f}; the detector alone is {shared / their_own:.2f}, which no way goes below")
    print(f"beside the detector: {own - shared:.3f} s and {their_own - shared:.3f} s")
    for one, other in zip(maps["audit"], maps["xaitk-saliency"], strict=True):
        print(f"correlation of the maps {np.corrcoef(one.ravel(), other.ravel())[0, 1]:.2f}")


if __name__ == "__main__":
    main()
