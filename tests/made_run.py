"""A run made up by rule, without a model. For report and browser tests."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from made_entries import (
    CLASSES,
    accuracy_entry,
    corruption_entries,
    explanation_entries,
    faithfulness_entries,
    pictures,
    results_of,
    robustness_entry,
)
from made_evidence import attack_evidence_entries, certification_entry, further_entries, oracle_entry, training_entry
from numpy.typing import NDArray

from audit.config import RunConfig, load_config
from audit.core.evidence import Evidence, Finding
from audit.core.note import note
from audit.core.topic import topics
from audit.document.schema import AuditDocument
from audit.document.section import SectionContext
from audit.planning.plan import Task
from audit.report.document import build_document
from audit.report.html import render_html
from audit.report.metadata import ModelMetadata, RunMetadata
from audit.results.run_checks import run_checks
from audit.results.run_results import RunResults


def made_results(images: NDArray[np.uint8] | None = None) -> RunResults:
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
    return results_of(*entries)


def made_facts(images: NDArray[np.uint8] | None = None, classes: tuple[str, ...] = CLASSES) -> RunMetadata:
    images = pictures(24) if images is None else images
    models = tuple(
        ModelMetadata(role, "cnn-28", "trained in this run", identity * 8, 225_034, recipe)
        for role, identity, recipe in (("standard", "0a1b2c3d", "standard"), ("hardened", "9f8e7d6c", "pgd"))
    )
    return RunMetadata(
        version="0.1.0",
        data=note("sample", "Fashion-MNIST sample"),
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
    return load_config(overrides=changes)


def built_rows(field: str, results: RunResults) -> list[Any]:
    """The rows of one document field, as its topic builds them."""
    (topic,) = [topic for topic in topics() if field in topic.document]
    build = topic.function("section", "build")
    assert build is not None
    return list(build(results, SectionContext(made_config(), CLASSES, tuple(results.roles), True))[field])


def finding_of(results: RunResults, check: str) -> Finding:
    """The one finding of a check, under the thresholds of a plain configuration."""
    (finding,) = [finding for finding in run_checks(results, load_config()) if finding.check == check]
    return finding


@cache
def made_document() -> AuditDocument:
    """The document of the made run. Frozen by custom: tests copy before they change it."""
    return build_document(made_results(), made_config(), made_facts())


@cache
def made_page(language: str = "en") -> str:
    """The page of the made run."""
    return render_html(made_document(), language=language)


@cache
def made_page_of(samples: int) -> str:
    """The page of the same run with a gallery of so many images."""
    images = pictures(samples)
    config = made_config(report={"gallery": samples})
    return render_html(build_document(made_results(images), config, made_facts(images)))
