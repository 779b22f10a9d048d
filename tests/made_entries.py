"""Evidence made up by rule, as the studies lay it out, without a model: the main studies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from audit.core.cell import Cell
from audit.core.evidence import Array, Evidence, Measurement
from audit.planning.plan import AuditPlan, Slice, Task
from audit.results.run_results import RunResults

CLASSES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
EPS = (0.0125, 0.025, 0.05, 0.1, 0.2)
METHODS = ("saliency", "integrated-gradients", "grad-cam", "lime", "shap", "occlusion")
ATTACKS = ("clean", "fgsm", "pgd", "deepfool")


def pictures(count: int, size: int = 28, channels: int = 1) -> NDArray[np.uint8]:
    """Discs, bars and crosses, uint8 (N, C, H, W)."""
    y, x = np.mgrid[0:size, 0:size] / size - 0.5
    drawn = []
    for i in range(count):
        kinds = (np.hypot(x, y) < 0.32, abs(x) < 0.16, (abs(x) < 0.1) | (abs(y) < 0.1), abs(x + y) < 0.2)
        shade = 120 + 13 * (i % 10) + 60 * y
        drawn.append(np.stack([np.where(kinds[i % 4], shade * (1 - 0.2 * c), 8 * c) for c in range(channels)]))
    return np.clip(np.stack(drawn), 0, 255).astype(np.uint8)


def entry(
    study: str,
    role: str,
    values: Mapping[str, Array],
    *,
    method: str = "",
    start: int = 0,
    settings: Mapping[str, Any] | None = None,
    threat: Mapping[str, Any] | None = None,
    **rest: Any,
) -> tuple[Task, Evidence]:
    """One task with its evidence; `values` are its measurements, `rest` goes to Evidence."""
    cell = Cell(study, method or study, settings=settings or {}, threat=threat, model=role, examples=f"{start}")
    count = len(next(iter(values.values()))) if values else 24
    measurements = tuple(Measurement(k, "share", "higher", np.asarray(v, np.float64)) for k, v in values.items())
    evidence = Evidence(cell, rest.pop("status", "measured"), measurements, **rest)
    return Task(cell, role, Slice("test", start, start + count), 0), evidence


def results_of(*entries: tuple[Task, Evidence]) -> RunResults:
    return RunResults(AuditPlan(tuple(task for task, _ in entries)), {task.cell.key: found for task, found in entries})


def accuracy_entry(role: str, right: float, count: int = 400, start: int = 0, seed: int = 1) -> tuple[Task, Evidence]:
    rng = np.random.default_rng(seed + start)
    labels = (np.arange(start, start + count) % 10).astype(np.int64)
    logits = rng.normal(0, 1, (count, 10)).astype(np.float32)
    predicted = np.where(rng.random(count) < right, labels, (labels + rng.integers(1, 10, count)) % 10)
    logits[np.arange(count), predicted] += 4
    correct = logits.argmax(1) == labels
    arrays = {"logits": logits, "labels": labels}
    return entry("accuracy", role, {"correct": correct}, start=start, arrays=arrays, forwards=count)


def robustness_entry(
    role: str, strength: float, images: NDArray[np.uint8], correct: Array, start: int = 0, **facts: Any
) -> tuple[Task, Evidence]:
    """One chunk; its first examples are `images` where it starts at 0, and none are kept elsewhere."""
    count = len(correct)
    rng = np.random.default_rng(5 + start)
    minimal = np.where(correct, rng.exponential(strength, count), 0.0)
    robust = np.stack([minimal > eps for eps in EPS])
    breaker = np.where(correct, rng.integers(1, len(ATTACKS), count), 0)
    kept = min(len(images), count) if start == 0 else 0
    arrays = {
        "robust": robust.astype(np.uint8),
        "broken_by": np.where(robust, -1, breaker).astype(np.int64),
        "adversarial": _attacked(images[:kept], ~robust[3][:kept] & (correct[:kept] > 0)),
        "adversarial_logits": 3 * np.eye(10, dtype=np.float32)[(np.arange(kept) + 1) % 10],
        "minimal_eps": minimal,
        "margin": (0.1 - minimal).astype(np.float32),
    }
    known = {
        "eps": list(EPS),
        "attacks": list(ATTACKS),
        "rows": _rows(robust, breaker),
        "inconclusive": [],
        "notes": [],
        "protocol": "quick 1",
        "broken": int((~robust[3]).sum()),
        "survive_rounding": int((~robust[3]).sum()) - 2,
        "runtime_rounding": 2e-5,
    }
    return entry(
        "robustness",
        role,
        {"robust": robust[3]},
        method="quick",
        start=start,
        settings={"eps": list(EPS), "headline": 0.1, "kept": kept},
        threat={"norm": "linf", "eps": 0.1},
        arrays=arrays,
        facts=known | facts,
        forwards=24_000,
        backwards=20_000,
    )


def _attacked(images: NDArray[np.uint8], broken: Array) -> Array:
    rng = np.random.default_rng(6)
    noise = 0.1 * np.sign(gaussian_filter(rng.normal(0, 1, images.shape), (0, 0, 1, 1)))
    changed = np.clip(images / 255 + noise, 0, 1)
    return np.where(broken[:, None, None, None], changed, images / 255).astype(np.float32)


def _rows(robust: Array, breaker: Array) -> list[dict[str, Any]]:
    """One row an attack and eps; an image is tried by every attack until one breaks it."""
    rows = []
    before = np.ones(robust.shape[1], bool)
    for eps, held in zip(EPS, robust, strict=True):
        for index, name in list(enumerate(ATTACKS))[1:]:
            broke = int((before & ~held & (breaker == index)).sum())
            tried = int((before & (held | (breaker >= index))).sum())
            cost = {"forwards": 40 * tried, "backwards": 40 * tried}
            rows.append({"name": name, "eps": eps, "settings": {"steps": 40}, "tried": tried, "broke": broke} | cost)
        before = held
    return rows


def explanation_entries(role: str, images: NDArray[np.uint8]) -> list[tuple[Task, Evidence]]:
    rng = np.random.default_rng(9)
    made = []
    for on in ("clean", "adversarial"):
        for index, method in enumerate(METHODS):
            grain = gaussian_filter(rng.normal(0, 1, (len(images), 1, *images.shape[2:])), (0, 0, 2.5, 2.5))
            maps = (grain * (images[:, :1] / 255 + 0.1)).astype(np.float32)
            maps = np.abs(maps) if index in (0, 2) else maps
            facts = {"output": "logit", "baseline": None if index % 2 else "mean", "segments": None}
            facts |= {"shared": {"shap": 460}} if method == "lime" else {}
            made.append(
                entry(
                    "explanation",
                    role,
                    {"residual": rng.random(len(images))},
                    method=method,
                    settings={"on": on, "method": {"steps": 32}},
                    arrays={"attributions": maps},
                    facts=facts,
                    forwards=900,
                )
            )
    made.append(
        entry(
            "explanation",
            role,
            {},
            method="layer-cam",
            settings={"on": "clean"},
            status="not_applicable",
            reason="The net has no layer with a spatial map.",
        )
    )
    return made


def faithfulness_entries(role: str, count: int = 24) -> list[tuple[Task, Evidence]]:
    rng = np.random.default_rng(3)
    return [
        entry(
            "faithfulness",
            role,
            method=method,
            forwards=count * 64,
            facts={"protocol": "28 steps, mean baseline"},
            values={
                "deletion_area": rng.normal(0.5 - edge, 0.1, count),
                "deletion_area_random": rng.normal(0.5, 0.1, count),
                "insertion_area": rng.normal(0.5 + edge, 0.1, count),
                "insertion_area_random": rng.normal(0.5, 0.1, count),
            },
        )
        for method, edge in zip(METHODS, (0.0, 0.2, 0.1, -0.15, 0.18, 0.12), strict=True)
    ]


def corruption_entries(role: str, loss: float, count: int = 200) -> list[tuple[Task, Evidence]]:
    rng = np.random.default_rng(4)
    return [
        entry(
            "corruption",
            role,
            {"correct": rng.random(count) < 0.9 - loss * severity},
            method=name,
            settings={"severity": severity},
            forwards=count,
        )
        for name in ("gaussian-noise", "defocus-blur")
        for severity in (1, 2, 3, 4, 5)
    ]
