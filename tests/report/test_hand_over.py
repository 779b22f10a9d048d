"""What goes with a model that is handed over, opened by its real readers: the Hub's parser, CycloneDX, Chromium."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from made_run import made_config, made_document, made_facts, made_results
from typer.testing import CliRunner

from audit.cli.app import app
from audit.core.errors import UsageError
from audit.document.schema import AuditDocument
from audit.report import pdf
from audit.report.bill_of_materials import render_bill_of_materials
from audit.report.document import build_document, to_json
from audit.report.hand_over import HandOver, sign_off
from audit.report.html import render_html
from audit.report.markdown import render_card

STATED = HandOver("Apache-2.0", ("zalando-datasets/fashion_mnist",))


@pytest.fixture(scope="module")
def document() -> AuditDocument:
    return made_document()


@pytest.fixture
def run(document: AuditDocument, tmp_path: Path) -> Path:
    (tmp_path / "audit.json").write_text(to_json(document), encoding="utf-8")
    return tmp_path


def card_of(text: str) -> Any:
    from huggingface_hub import ModelCard

    return ModelCard(text, ignore_metadata_errors=False)


def test_the_hub_reads_the_head_of_the_card(document: AuditDocument) -> None:
    card = card_of(render_card(document, hand_over=STATED))
    assert (card.data.library_name, card.data.pipeline_tag) == ("pytorch", "image-classification")
    assert card.data.license == "apache-2.0" and card.data.datasets == ["zalando-datasets/fashion_mnist"]
    assert card.text.lstrip().startswith("# Model card: cnn-28")
    results = {result.metric_name: result for result in card.data.eval_results}
    accuracy = next(part.accuracy for part in document.accuracy if part.role == "standard")  # type: ignore[attr-defined]
    clean = results["Clean accuracy"]
    assert clean.metric_value == accuracy.estimate and clean.dataset_name == "Fashion-MNIST sample"
    assert clean.metric_args == {"confidence": 0.95, "low": accuracy.low, "high": accuracy.high, "n": accuracy.n}
    curve = next(part.curve for part in document.robustness if part.role == "standard")  # type: ignore[attr-defined]
    robust = [result for name, result in results.items() if name.startswith("Robust accuracy within linf")]
    assert [r.metric_value for r in robust] == [point.robust.estimate for point in curve]


def test_the_head_speaks_of_the_model_under_test_alone(document: AuditDocument) -> None:
    hardened = next(part.accuracy for part in document.accuracy if part.role == "hardened")  # type: ignore[attr-defined]
    values = [result.metric_value for result in card_of(render_card(document)).data.eval_results]
    assert hardened.estimate not in values


def test_a_card_without_a_licence_says_so(document: AuditDocument) -> None:
    card = card_of(render_card(document))
    assert card.data.license is None and card.data.datasets is None
    assert "Not stated: without a licence nobody may use the model" in card.text
    assert "Not stated: without a licence" not in render_card(document, hand_over=STATED)


@pytest.mark.parametrize("title", ['quote " and \\', "colon: # and - dash", "line\nbreak", "null", "---"])
def test_names_from_files_stay_values_of_the_head(title: str) -> None:
    facts = made_facts()
    models = tuple(type(m)(m.role, title, m.origin, m.identity, m.parameters, m.recipe) for m in facts.models)
    hostile = build_document(
        made_results(), made_config(), type(facts)(**{**vars(facts), "models": models, "data": title})
    )
    card = card_of(render_card(hostile))
    assert card.data.eval_results[0].dataset_name == title.replace("\n", "<U+000A>")
    assert card.data.library_name == "pytorch"


@pytest.mark.parametrize("stated", [{"license": "see below"}, {"datasets": ("https://x.example/y",)}])
def test_what_the_hub_would_not_read_is_refused(stated: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="is no name of a"):
        HandOver(**stated)


def test_cyclonedx_takes_the_bill_of_materials(document: AuditDocument) -> None:
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    validator = JsonStrictValidator(SchemaVersion.V1_6)
    text = render_bill_of_materials(document, hand_over=STATED)
    assert validator.validate_str(text) is None
    assert validator.validate_str(text.replace('"machine-learning-model"', '"model"')) is not None
    assert validator.validate_str(render_bill_of_materials(document)) is None
    assert text == render_bill_of_materials(document, hand_over=STATED)
    body = json.loads(text)
    model = body["metadata"]["component"]
    assert model["licenses"] == [{"license": {"name": "Apache-2.0"}}]
    metrics = model["modelCard"]["quantitativeAnalysis"]["performanceMetrics"]
    accuracy = next(part.accuracy for part in document.accuracy if part.role == "standard")  # type: ignore[attr-defined]
    assert metrics[0]["value"] == str(accuracy.estimate)
    assert metrics[0]["confidenceInterval"] == {"lowerBound": str(accuracy.low), "upperBound": str(accuracy.high)}
    assert {"pkg:pypi/torch@2.14.0"} == {c["purl"] for c in body["components"] if "purl" in c}
    known = {c["bom-ref"] for c in [model, *body["components"]]}
    assert all({row["ref"], *row["dependsOn"]} <= known for row in body["dependencies"])


def test_a_sign_off_says_what_was_decided_on_what(run: Path, document: AuditDocument) -> None:
    policy = run / "policy.toml"
    policy.write_text('[default]\nlevel = "error"\n')
    words = ["report", str(run), "--format", "html,card", "--decision", "May <b>ship</b>", "--decided-by", "A. Smith"]
    shown = CliRunner().invoke(app, [*words, "--policy", str(policy)])
    assert shown.exit_code == 0, shown.output
    page, card = ((run / name).read_text("utf-8") for name in ("report.html", "model-card.md"))
    hashes = [hashlib.sha256((run / name).read_bytes()).hexdigest() for name in ("policy.toml", "audit.json")]
    for text in (page, card):
        assert all(digest in text for digest in hashes) and "A. Smith" in text and "not passed: " in text
    assert "May &lt;b&gt;ship&lt;/b&gt;" in page and 'href="#sign-off"' in page
    assert ">On<" not in page


def test_nothing_is_signed_off_unless_somebody_says_so(document: AuditDocument) -> None:
    assert "Sign-off" not in render_html(document) and "Sign-off" not in render_card(document)
    assert sign_off(document, "") is None
    with pytest.raises(UsageError, match="--decision"):
        sign_off(document, "", by="A. Smith")


def test_chromium_prints_the_report(run: Path) -> None:
    if not any(map(shutil.which, pdf.BROWSERS)):
        pytest.skip("there is no Chromium")
    shown = CliRunner().invoke(app, ["report", str(run), "--format", "pdf", "--no-images"])
    assert shown.exit_code == 0, shown.output
    body = (run / "report.pdf").read_bytes()
    assert body.startswith(b"%PDF-") and body.count(b"/Type /Page\n") + body.count(b"/Type /Page/") >= 1


def test_without_a_browser_there_is_one_sentence(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pdf, "BROWSERS", ("no-such-browser",))
    shown = CliRunner().invoke(app, ["report", str(run), "--format", "pdf"])
    assert shown.exit_code == 5 and "needs Chromium or Chrome" in shown.output
    assert not (run / "report.pdf").exists()
