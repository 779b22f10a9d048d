"""Evidence made up by rule: what judges explanations, attacks and the tool, and the training."""

from __future__ import annotations

from typing import Any

import numpy as np
from made_entries import CLASSES, METHODS, entry

from audit.core.evidence import Array, Evidence
from audit.planning.plan import Task


def further_entries(role: str, count: int = 24) -> list[tuple[Task, Evidence]]:
    """Studies without a section of their own, one value undefined; a convicted place for the standard model."""
    rng = np.random.default_rng(8)
    similarity = np.r_[np.nan, rng.normal(0.1, 0.05, count - 1)]
    place = {"class": CLASSES[1], "share": 0.61, "removed": 0.9, "transplanted": 0.8, "images": 40}
    place |= {"left_anyway": 0.05, "joined_anyway": 0.02}
    convicted = [place | {"box": [0, 0, 4, 4]}] if role == "standard" else []
    return [
        entry(
            "attribution-quality",
            role,
            {"infidelity": rng.random(count), "infidelity_random": rng.random(count) + 1},
            method="shap",
        ),
        entry("attribution-quality", role, {"randomisation_similarity": similarity}, method="lime"),
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
    held = entry(
        "attribution-quality", role, {k: rng.normal(v, 0.05, count) for k, v in controls.items()}, method="saliency"
    )
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
            entry("other-threats", role, values, method=method, settings=settings, facts=told, forwards=900, **rest)
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
    same = {"package": "lime 0.2.0.1", "problem": "linear game", "method": "lime", "call": "LimeImageExplainer"}
    same |= {"difference": 1e-7, "ours": 2e-7, "theirs": 1e-7, "bound": 1e-4, "holds": True, "why": "rounding"}
    failed = {"package": "shap", "problem": "not solved", "method": "", "call": "", "difference": None, "ours": None}
    failed |= {"theirs": None, "bound": 0.0, "holds": False, "why": "the package failed: it moved"}
    facts = {"oracles": rows, "packages": [same, failed]}
    return entry("self-test", "tool", {"error": np.array([1e-7, 1e-7])}, facts=facts)


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
