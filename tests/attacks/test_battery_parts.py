"""A battery in parts, however its images are cut, ends in what the whole ends in: every book, row and doubt."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from attack_models import tiny_net

from audit.adversarial.batteries import BATTERIES
from audit.adversarial.battery import AttackSpec, Battery
from audit.adversarial.battery_job import BatteryJob, battery_job
from audit.adversarial.battery_parts import StretchResult, examined_model, joined, run_stretch
from audit.adversarial.battery_schedule import battery_schedule, stretches
from audit.adversarial.chosen_images import chosen_images
from audit.adversarial.result import BatteryResult
from audit.adversarial.run_battery import run_battery
from audit.adversarial.worst_case import radius
from audit.core.errors import Interrupted
from audit.core.threat import ThreatModel
from audit.core.types import Batch
from audit.models.under_test import ModelUnderTest
from audit.storage.checkpoint import CellCheckpoint

EPS, HEADLINE, SEED = (0.005, 0.01, 0.015), 0.01, 5
BATTERY = Battery(
    "short",
    "",
    (
        AttackSpec("random-noise", {"draws": 2}, "noise"),
        AttackSpec("pgd", {"steps": 3}, "closest", hardest_fraction=0.4),
        AttackSpec("apgd-ce", {"steps": 4}, "closer", hardest_fraction=0.4),
        AttackSpec("square", {"queries": 20}, "check", control_sample=6),
        AttackSpec("mi-fgsm", {"steps": 3, "to_the_end": True}, "transfer", transferred=True),
        AttackSpec("fmn", {"steps": 6}),
        AttackSpec("random-noise", {"draws": 4}, control_sample=2),
    ),
    refine_steps=3,
)


@pytest.fixture(autouse=True)
def one_image_at_a_time(cnn_model: ModelUnderTest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels round otherwise in another batch: what is compared here is which images meet which attack."""
    monkeypatch.setattr("audit.adversarial.battery_job.tune_execution", lambda model: None)
    monkeypatch.setattr("audit.adversarial.run_battery.tune_execution", lambda model: None)
    cnn_model.layout.batch_size = 1


@pytest.fixture
def batch(cnn_model: ModelUnderTest) -> Batch:
    images = torch.rand(23, 1, 12, 12, generator=torch.Generator().manual_seed(1))
    labels = cnn_model.predictions(images)
    labels[:3] = (labels[:3] + 1) % 4
    return Batch(images, labels, tuple(f"n{i}" for i in range(23)))


@pytest.fixture
def surrogate() -> ModelUnderTest:
    model = ModelUnderTest(tiny_net(), classes=tuple("abcd"), input_shape=(1, 12, 12), device="cpu")
    model.layout.batch_size = 1
    return model


def in_parts(job: BatteryJob, size: int, surrogate: ModelUnderTest) -> BatteryResult:
    """Part after part, as the cells of a plan do."""
    report = examined_model(job.model, job.batch, job.norm, SEED, sanity_checks=True)
    starts = range(0, len(job.batch), size)
    jobs = [
        replace(job, batch=job.batch.select(torch.arange(len(job.batch))[start : start + size])) for start in starts
    ]
    chunks: list[list[StretchResult]] = [[] for _ in starts]
    for number, runs in enumerate(stretches(job.schedule)):
        chosen = torch.zeros(0, dtype=torch.int64)
        if number:
            run, states = job.schedule[runs[0]], [chunk[-1].state for chunk in chunks]
            distance, margin = (torch.cat([state[name] for state in states]) for name in ("distance", "margin"))
            survivors = (distance > radius(ThreatModel(job.norm, run.at))).nonzero().flatten()
            chosen = chosen_images(run.entry, survivors, margin, job.batch.ids, SEED)
        for start, part, chunk in zip(starts, jobs, chunks, strict=True):
            here = chosen[(chosen >= start) & (chosen < start + size)] - start
            before = (chunk[-1].state, here) if chunk else (None, None)
            chunk.append(run_stretch(part, runs, report, *before, surrogate=surrogate))
    return joined(job, chunks, report)


@pytest.mark.parametrize("size", [5, 20])
def test_parts_of_any_size_join_to_the_whole(
    cnn_model: ModelUnderTest, batch: Batch, surrogate: ModelUnderTest, size: int
) -> None:
    asked: dict[str, Any] = {"battery": BATTERY, "headline": HEADLINE, "seed": SEED}
    whole = run_battery(cnn_model, batch, "linf", EPS, surrogate=surrogate, **asked)
    parts = in_parts(battery_job(cnn_model, batch, "linf", EPS, **asked), size, surrogate)
    for name in ("survived", "first_broken_by", "minimal_eps", "nearest", "rounding", "margin"):
        assert torch.equal(getattr(parts, name), getattr(whole, name)), name
    assert parts.rows == whole.rows
    assert {row.name for row in whole.rows if row.broke} >= {"closer", "fmn"}
    assert {row.name for row in whole.rows if 0 < row.tried < row.survivors} == {
        "closest",
        "closer",
        "check",
        "random-noise",
    }
    for name in ("eps", "headline", "attacks", "doubts", "inconclusive", "notes", "health", "draws"):
        assert getattr(parts, name) == getattr(whole, name), name


def test_a_schedule_is_cut_where_an_attack_looks_across_images() -> None:
    schedule = battery_schedule(BATTERIES["standard"], (0.05, 0.1), 0.1)
    cuts = stretches(schedule)
    names = [[run.entry.title for run in schedule[slice(*cut)]] for cut in cuts]
    assert names == [
        ["fgsm", "apgd-dlr", "apgd-ce", "apgd-t"],
        ["apgd-ce-closest"],
        ["apgd-t-closest", "fgsm", "apgd-dlr", "apgd-ce", "apgd-t"],
        ["apgd-ce-closest"],
        ["apgd-t-closest"],
        ["square-check"],
        ["random-noise"],
    ]
    assert stretches(battery_schedule(BATTERIES["autoattack"], (0.1,), 0.1)) == ((0, 4),)


def test_a_battery_that_begins_with_a_control_begins_with_an_empty_stretch() -> None:
    control = Battery("control", "", (AttackSpec("random-noise", control_sample=4), AttackSpec("fgsm")))
    assert stretches(battery_schedule(control, (0.1,), 0.1)) == ((0, 0), (0, 2))


def test_a_stretch_that_was_cut_off_ends_in_what_it_would_have_ended_in(
    cnn_model: ModelUnderTest, batch: Batch, surrogate: ModelUnderTest, tmp_path: Path
) -> None:
    job = battery_job(cnn_model, batch, "linf", EPS, battery=BATTERY, headline=HEADLINE, seed=SEED)
    report = examined_model(cnn_model, batch, "linf", SEED, sanity_checks=True)
    first, _, third, *_ = stretches(job.schedule)
    before = run_stretch(job, first, report, None, None).state
    asked: dict[str, Any] = {"before": before, "chosen": torch.tensor([5, 9, 17]), "surrogate": surrogate}
    whole = run_stretch(job, third, report, **asked)
    assert len(whole.rows) > 2 and len(whole.changed) > 0
    seen: list[int] = []
    path = tmp_path / "stretch.safetensors"
    with pytest.raises(Interrupted):
        run_stretch(
            job,
            third,
            report,
            **asked,
            progress=lambda done, total: seen.append(done),
            stopping=lambda: len(seen) == 2,
            unfinished=CellCheckpoint(path),
        )
    resumed = run_stretch(job, third, report, **asked, unfinished=CellCheckpoint(path))
    assert resumed.rows == whole.rows and resumed.passes == whole.passes
    assert torch.equal(resumed.changed, whole.changed) and torch.equal(resumed.nearest, whole.nearest)
    assert all(torch.equal(resumed.state[name], whole.state[name]) for name in whole.state)
