"""What other people's attacks, attributions, topics and packages do wrong is said by name, and spoils nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from jinja2 import Template

from audit.adversarial.propose import propose
from audit.adversarial.run_battery import run_battery
from audit.config import load_config
from audit.core import method_table
from audit.core.cell import Cell
from audit.core.errors import AuditError, SetupError, UsageError
from audit.core.evidence import Evidence, Measurement
from audit.core.registry import find
from audit.core.seeding import Generators
from audit.core.threat import ThreatModel
from audit.core.types import Batch
from audit.document.locale import load_locale
from audit.execution.local import _require_one_value_an_example
from audit.explanation.run import explain_images
from audit.explanation.spec import Attribution
from audit.models.under_test import ModelUnderTest
from audit.planning.builder import ModelRef, PlanBuilder
from audit.planning.run_identity import RunIdentity
from audit.report.document import build_document, to_json
from audit.report.gate import gate
from audit.report.html import page_environment, render_html
from audit.report.policy import Policy, Rule
from audit.report.view import build_view
from audit.topics.accuracy.section import AccuracyPart
from audit.topics.robustness.section import RobustnessPart
from tests.made_run import made_config, made_document, made_facts, made_results

PACKAGE = Path(__file__).parent.parent
IDENTITY = RunIdentity(classes=("a", "b"), shape=(1, 4, 4), test="t", test_examples=8, architecture="cnn-28")


@pytest.fixture
def model() -> ModelUnderTest:
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 2))
    return ModelUnderTest(net, classes=("a", "b"), input_shape=(1, 4, 4), device="cpu")


@pytest.fixture
def batch(model: ModelUnderTest) -> Batch:
    images = torch.rand(6, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    return Batch(images, model.predictions(images), tuple(map(str, range(6))))


def test_an_attack_that_writes_into_its_images_moves_nothing_the_verifier_measures_from(
    model: ModelUnderTest, batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    def paint(model: object, batch: Batch, threat: object, generators: object, **settings: object) -> torch.Tensor:
        return batch.images.fill_(0.0)

    monkeypatch.setitem(method_table._METHODS, ("attack", "fgsm"), replace(find("attack", "fgsm"), function=paint))
    before = batch.images.clone()
    outcome = run_battery(model, batch, "linf", [0.01], battery="fgsm")
    assert torch.equal(batch.images, before)
    assert outcome.rows[0].broke == 0 and outcome.rows[0].faults > 0 and bool(outcome.robust.all())


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda images: None, "returned NoneType"),
        (lambda images: images[:1], r"returned images of shape \(1, 1, 4, 4\)"),
        (lambda images: images / "x", "failed: TypeError"),
    ],
)
def test_an_attack_that_fails_is_named(answer: object, words: str, model: ModelUnderTest, batch: Batch) -> None:
    method = replace(find("attack", "fgsm"), function=lambda model, batch, *rest, **settings: answer(batch.images))  # type: ignore[operator]
    draws = Generators.of(batch.ids, seed=0, purpose="test", device="cpu")
    with pytest.raises(AuditError, match=f"Attack fgsm {words}"):
        propose(method, model, batch, ThreatModel("linf", 0.1), draws, {})


@pytest.mark.parametrize(
    ("maps", "words"), [(torch.zeros(6, 1, 4, 3), "maps of shape"), (torch.full((6, 1, 4, 4), torch.nan), "NaN")]
)
def test_an_attribution_of_a_wrong_shape_or_of_nan_is_refused(
    maps: torch.Tensor, words: str, model: ModelUnderTest, batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = replace(find("attribution", "saliency"), function=lambda *rest, **settings: Attribution(maps))
    monkeypatch.setitem(method_table._METHODS, ("attribution", "saliency"), wrong)
    with pytest.raises(AuditError, match=f"Attribution saliency returned .*{words}"):
        explain_images(model, batch.images, method="saliency")


def test_a_study_that_no_topic_lists_is_not_planned() -> None:
    builder = PlanBuilder(load_config(), IDENTITY)
    with pytest.raises(SetupError, match="'unheard-of' belongs to no topic"):
        builder.add("unheard-of", "x", ModelRef("standard", "m"), builder.explained)


def test_a_setting_without_a_type_or_a_default_is_named() -> None:
    def lacking(model: object, *, steps) -> None:  # type: ignore[no-untyped-def]
        """Nothing."""

    with pytest.raises(UsageError, match=r"'steps' of .*lacking needs a type and a default"):
        replace(find("attack", "fgsm"), function=lacking).settings({"steps": 3})


def test_a_policy_that_names_no_role_of_a_run_is_refused() -> None:
    findings = made_document().findings
    with pytest.raises(UsageError, match=r"'hardend'.*'hardened'"):
        gate(findings, Policy(default=Rule(roles=("hardend",))), source="policy.toml")


def test_what_a_policy_asks_for_and_nothing_measured_is_said() -> None:
    findings = [finding for finding in made_document().findings if finding.check != "backdoor"]
    gated = gate(findings, Policy(checks={"backdoor": Rule(level="error"), "clean-accuracy": Rule(level="error")}))
    assert gated.unmeasured == ("backdoor",)


def test_a_finding_of_a_section_that_is_not_shown_stands_in_the_protocol() -> None:
    document = made_document()
    moved = document.findings[0].model_copy(update={"section": "dark_room"})
    view = build_view(document.model_copy(update={"findings": [moved, *document.findings[1:]]}), load_locale())
    assert moved in [shown.finding for shown in view.by_section["protocol"]]


@pytest.mark.parametrize("group", ["audit.methods", "audit.topics"])
def test_a_package_that_cannot_be_imported_is_named(group: str, tmp_path: Path) -> None:
    info = tmp_path / "broken-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{group}]\nthing = no_such_module_anywhere\n")
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{PACKAGE}"}
    command = [sys.executable, "-m", "audit", "plan"]
    ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 5, ended.stderr
    assert "plug-in 'thing' of broken" in " ".join(ended.stderr.split()) and "Traceback" not in ended.stderr


def failing(*args: object, **settings: object) -> object:
    raise ValueError("no")


def test_a_check_that_fails_is_a_gap_and_the_others_are_findings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        method_table._METHODS, ("check", "clean-accuracy"), replace(find("check", "clean-accuracy"), function=failing)
    )
    document = build_document(made_results(), made_config(), made_facts())
    assert document.findings and not document.summary.complete
    assert "clean-accuracy" not in {finding.check for finding in document.findings}
    (gap, *_) = [gap for gap in document.gaps if gap.study == "clean-accuracy"]
    assert gap.status == "failed" and "Check clean-accuracy" in str(gap.reason)


@pytest.mark.parametrize("answer", [failing, lambda *rest: {"nothing": []}, lambda *rest: {"accuracy": [object()]}])
def test_a_section_that_fails_is_a_gap_and_the_others_stand(answer: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("audit.topics.accuracy.section.build", answer)
    document = build_document(made_results(), made_config(), made_facts())
    assert not document.rows(AccuracyPart) and document.rows(RobustnessPart) and not document.summary.complete
    assert [gap.role for gap in document.gaps if gap.study == "accuracy"] == [""]


def test_a_template_or_a_view_that_fails_leaves_the_page_without_its_part(monkeypatch: pytest.MonkeyPatch) -> None:
    faults: list[str] = []
    monkeypatch.setattr("audit.topics.robustness.view.view", failing)
    get_template = page_environment().get_template

    def broken(name: str, *rest: object) -> Template:
        return (
            page_environment().from_string("{{ nothing.at.all }}") if "accuracy/section" in name else get_template(name)
        )

    monkeypatch.setattr(page_environment(), "get_template", broken)
    page = render_html(made_document(), on_fault=faults.append)
    assert "view of topic robustness failed: ValueError" in faults[0]
    assert "section.html.j2 of topic accuracy failed" in faults[1] and "the page is without it" in page
    assert page.rstrip().endswith("</html>") and 'id="corruptions"' in page


def test_a_study_that_measures_too_few_values_is_failed_evidence(model: ModelUnderTest) -> None:
    cell = Cell("accuracy", "clean")
    for values in (np.zeros(2), np.zeros((3, 1)), np.array(["a", "b", "c"])):
        measured = Evidence(cell, "measured", (Measurement("correct", "share", "higher", values),))
        with pytest.raises(AuditError, match=r"The study accuracy measured 'correct'.*each of 3 examples"):
            _require_one_value_an_example(measured, 3)


@pytest.mark.parametrize("group", ["audit.methods", "audit.topics"])
def test_a_broken_package_spoils_no_finished_run(group: str, tmp_path: Path) -> None:
    info = tmp_path / "broken-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{group}]\nthing = no_such_module_anywhere\n")
    (tmp_path / "audit.json").write_text(to_json(made_document()))
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{PACKAGE}"}
    command = [sys.executable, "-m", "audit", "report", "audit.json", "--format", "html,sarif"]
    ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert (tmp_path / "report.html").is_file() and "plug-in 'thing' of broken" in " ".join(ended.stderr.split())
