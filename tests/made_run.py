"""A run made up by rule: evidence as the studies lay it out, without a model. For report and browser tests."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from audit.cell import Cell
from audit.config import RunConfig
from audit.dossier import Dossier
from audit.evidence import Array, Evidence, Measurement
from audit.plan import AuditPlan, Slice, Task
from audit.report.document import build_document
from audit.report.facts import ModelFacts, RunFacts
from audit.report.html import render_html
from audit.report.schema import AuditDocument

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


def dossier_of(*entries: tuple[Task, Evidence]) -> Dossier:
    return Dossier(AuditPlan(tuple(task for task, _ in entries)), {task.cell.key: found for task, found in entries})


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


def further_entries(role: str, count: int = 24) -> list[tuple[Task, Evidence]]:
    """Studies without a section of their own, one value undefined; a convicted place for the standard model."""
    rng = np.random.default_rng(8)
    similarity = np.r_[np.nan, rng.normal(0.1, 0.05, count - 1)]
    place = {"class": CLASSES[1], "share": 0.61, "removed": 0.9, "transplanted": 0.8, "control": 0.02, "images": 40}
    convicted = [place | {"box": [0, 0, 4, 4]}] if role == "standard" else []
    return [
        entry(
            "judging",
            role,
            {"infidelity": rng.random(count), "infidelity_random": rng.random(count) + 1},
            method="shap",
        ),
        entry("judging", role, {"randomisation_similarity": similarity}, method="lime"),
        *explanation_evidence_entries(role, count),
        entry(
            "shortcuts",
            role,
            {"mass": rng.random(count)},
            method="shap",
            facts={"shortcuts": convicted, "tried": 3},
        ),
    ]


def explanation_evidence_entries(role: str, count: int = 24) -> list[tuple[Task, Evidence]]:
    """Drift with its control, controls of two methods, and who agrees with whom, one pair not comparable."""
    rng = np.random.default_rng(11)
    threat = {"norm": "linf", "eps": 0.1}
    moved = [
        entry(
            "drift",
            role,
            {"agreement": rng.normal(0.9 - loss, 0.05, count), "agreement_random": rng.normal(0.9, 0.05, count)},
            method=method,
            settings={"kind": kind},
            threat=threat,
        )
        for method, kind, loss in (
            ("lime", "manipulation", 0.02),
            ("integrated-gradients", "manipulation", 0.6),
            ("integrated-gradients", "constant-label", 0.1),
        )
    ]
    controls = {"road_area": 0.4, "road_area_random": 0.6, "road_area_edges": 0.41, "max_sensitivity": 1.3}
    held = entry("judging", role, {k: rng.normal(v, 0.05, count) for k, v in controls.items()}, method="saliency")
    matrix = np.clip(np.add.outer(np.linspace(0.9, -0.6, 6), np.linspace(0, 0.3, 6)), -1, 1)
    matrix = (matrix + matrix.T) / 2
    np.fill_diagonal(matrix, 1.0)
    matrix[2, 3] = matrix[3, 2] = np.nan
    facts = {"methods": sorted(METHODS), "left_out": ["layer-cam"]}
    return [
        *moved,
        held,
        entry("agreement", role, {}, method="rank-correlation", arrays={"matrix": matrix}, facts=facts),
    ]


def certification_entry(role: str, broken_at: Array) -> tuple[Task, Evidence]:
    """Half the distance at which each image was broken, and at most 0.15: nothing proven is ever broken."""
    radius = np.minimum(broken_at / 2, 0.15)
    facts = {"norm": "linf", "certifies": "the model itself", "abstained": 0}
    return entry("certification", role, {"certified_radius": radius}, method="interval-bounds", facts=facts)


def further_threat_entries(role: str, count: int = 80) -> list[tuple[Task, Evidence]]:
    """A line of each kind; where a change is made on every second image, the others alone have a value."""
    known = {"target": "", "made_on": 40, "made_by": "", "agreement": None, "scored": 40, "right": 37, "control": 33}
    ball = {"threat": {"norm": "linf", "eps": 0.1}}
    lines: list[tuple[str, dict[str, Any], dict[str, Any], dict[str, Any]]] = [
        ("spatial", {"rotation": 30.0, "translation": 3}, {}, {"threat": "rotation ±30°, translation ±3 px"}),
        ("universal", {}, ball, {"threat": "linf 0.1"}),
        ("patch", {"area": 0.05, "targets": 0}, {}, {"threat": "patch over 5.0% of the image, bottom-right"}),
        ("patch", {"area": 0.05, "targets": 10}, {}, {"threat": "patch over 5.0%", "target": CLASSES[8]}),
        ("transfer", {}, ball, {"threat": "linf 0.1", "made_by": "cnn-28", "agreement": 0.85}),
    ]
    made = []
    for number, (method, settings, rest, facts) in enumerate(lines):
        withstood = np.where(np.arange(count) % 2 == 1, np.arange(count) % 20 > 4 * number, np.nan)
        whole = {"scored": 80, "right": 74, "control": 60, "made_on": 0}
        told = known | facts | {"faults": 0} | (whole if method == "spatial" else {})
        values = {"withstood": np.arange(count) % 20 > 4 if method == "spatial" else withstood}
        made.append(
            entry("further-threats", role, values, method=method, settings=settings, facts=told, forwards=900, **rest)
        )
    return made


def attack_evidence_entries(role: str) -> list[tuple[Task, Evidence]]:
    """Controls that hold, and a search that finds patches of ordinary size."""
    controls = {"noise_only": np.zeros(40), "doubled": np.zeros(40)}
    rows = [
        {"class": name, "area": 0.06 + 0.01 * k, "anomaly": 0.1 * k, "moved": 90, "tried": 100, "reached": True}
        for k, name in enumerate(CLASSES)
    ]
    mask = np.zeros((10, 28, 28), np.float32)
    mask[:, 24:27, 24:27] = 1
    found = {"masks": mask, "patterns": np.ones((10, 1, 28, 28), np.float32)}
    facts = {"triggers": rows, "made_on": 20}
    threat = {"norm": "linf", "eps": 0.1}
    return [
        *further_threat_entries(role),
        entry("attack-controls", role, controls, method="quick", threat=threat, facts={"suspicions": []}),
        entry("backdoor", role, {"moved": np.full(40, 0.5)}, method="smallest-triggers", arrays=found, facts=facts),
    ]


def oracle_entry(holds: bool = True) -> tuple[Task, Evidence]:
    row = {"problem": "linear game", "method": "shap", "error": 1e-7, "bound": 1e-4, "holds": True}
    rows = [row, row | {"problem": "ridge", "method": "lime", "error": 1e-7 if holds else 0.5, "holds": holds}]
    return entry("calibration-of-the-tool", "tool", {"error": np.array([1e-7, 1e-7])}, facts={"oracles": rows})


def training_entry(role: str) -> tuple[Task, Evidence]:
    history = [{"epoch": i, "loss": 0.9 / (i + 1), "held_out_accuracy": 0.8 + 0.01 * i} for i in range(4)]
    return entry(
        "training",
        role,
        {},
        method="standard",
        settings={"epochs": 4, "optimizer": "adam"},
        facts={"history": history, "parameters": 225_034, "kept_epoch": 3},
        backwards=18_000,
        forwards=18_000,
    )


def made_dossier(images: NDArray[np.uint8] | None = None) -> Dossier:
    """Two models with everything measured; the standard one weak, the hardened one strong."""
    images = pictures(24) if images is None else images
    entries: list[tuple[Task, Evidence]] = [oracle_entry()]
    for role, right, strength, loss in (("standard", 0.9, 0.03, 0.12), ("hardened", 0.87, 0.3, 0.03)):
        clean = accuracy_entry(role, right)
        correct = clean[1].measurement("correct").per_example
        entries += [training_entry(role), clean]
        attacked = [
            robustness_entry(role, strength, images, correct[start:stop], start)
            for start, stop in ((0, 120), (120, 200))
        ]
        proven = [certification_entry(role, attacked[0][1].arrays["minimal_eps"][:40])] if role == "hardened" else []
        entries += [*attacked, *further_entries(role), *proven, *attack_evidence_entries(role)]
        entries += [*explanation_entries(role, images), *faithfulness_entries(role), *corruption_entries(role, loss)]
    return dossier_of(*entries)


def made_facts(images: NDArray[np.uint8] | None = None, classes: tuple[str, ...] = CLASSES) -> RunFacts:
    images = pictures(24) if images is None else images
    models = tuple(
        ModelFacts(role, "cnn-28", "trained in this run", identity * 8, 225_034, recipe)
        for role, identity, recipe in (("standard", "0a1b2c3d", "standard"), ("hardened", "9f8e7d6c", "pgd"))
    )
    return RunFacts(
        version="0.1.0",
        data="Fashion-MNIST sample",
        classes=classes,
        shape=(int(images.shape[1]), *images.shape[2:4]),
        models=models,
        gallery=images,
        ids=tuple(f"test/{i:05d}" for i in range(400)),
        notes=("2 images were repeated and are counted once.",),
        environment={"torch": "2.14.0", "device": "cpu"},
        commands={
            "run": "audit run --preset quick --seed 0",
            "robustness": "audit run --preset quick --only robustness",
        },
    )


def made_config(**changes: Any) -> RunConfig:
    return RunConfig.model_validate(changes)


@cache
def made_document() -> AuditDocument:
    """The document of the made run. Frozen by custom: tests copy before they change it."""
    return build_document(made_dossier(), made_config(), made_facts())


@cache
def made_page(language: str = "en") -> str:
    """The page of the made run."""
    return render_html(made_document(), language=language)
