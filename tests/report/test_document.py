from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from made_entries import CLASSES, accuracy_entry, entry, pictures, results_of, robustness_entry
from made_run import made_config, made_document, made_facts, made_results
from PIL import Image

from audit.core.errors import UsageError
from audit.document.images import heatmap, picture
from audit.document.model import Picture
from audit.document.sanitise import visible, without_paths
from audit.document.schema import AuditDocument
from audit.report.document import build_document, read_document, schema_json, to_json
from audit.results.run_results import RunResults
from audit.topics.robustness.facts import RobustnessFacts
from audit.topics.robustness.section import attack_rows


@pytest.fixture(scope="module")
def document() -> AuditDocument:
    return made_document()


def decoded(found: Picture) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(found.data))).convert("L"))


def test_the_same_evidence_gives_the_same_bytes(document: AuditDocument) -> None:
    assert to_json(document) == to_json(build_document(made_results(), made_config(), made_facts()))


def test_a_document_obeys_its_published_schema(document: AuditDocument) -> None:
    schema = json.loads(schema_json())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(json.loads(to_json(document)), schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(json.loads(to_json(document)) | {"surprise": 1}, schema)


def test_a_document_survives_the_disk(document: AuditDocument, tmp_path: Path) -> None:
    (tmp_path / "audit.json").write_text(to_json(document), encoding="utf-8")
    assert read_document(tmp_path / "audit.json") == document


def test_numbers_have_six_significant_digits(document: AuditDocument) -> None:
    for number in re.findall(r"-?\d+\.\d+(?:e[-+]\d+)?", to_json(document)):
        assert float(number) == float(f"{float(number):.6g}")


def test_the_summary_speaks_of_the_model_under_test(document: AuditDocument) -> None:
    assert document.summary.verdict == "fail"
    assert document.summary.sentence.startswith("Not ready to ship: under attack within linf 0.1 the standard model ")
    assert "The hardened model mends that" in document.summary.sentence


def test_accuracy_and_robustness_are_the_evidence_counted_by_hand(document: AuditDocument) -> None:
    results = made_results()
    correct = results.per_example("accuracy", "correct", role="standard")
    assert document.accuracy[0].accuracy.estimate == pytest.approx(correct.mean())
    robust = results.array("robustness", "robust", role="standard", axis=1)
    assert robust is not None
    curve = document.robustness[0].curve
    assert [point.robust.estimate for point in curve] == pytest.approx(robust.mean(axis=1))
    assert document.robustness[0].attack_success_rate is not None
    right = correct[:200] > 0
    assert document.robustness[0].attack_success_rate.estimate == pytest.approx(1 - robust[3][right].mean(), rel=1e-5)


def test_attack_rows_add_chunks_and_count_what_broke_within_the_headline() -> None:
    results = results_of(*(robustness_entry("standard", 0.05, pictures(4), np.ones(50), s) for s in (0, 50)))
    entries = results.entries("robustness")
    robust = np.concatenate([e.evidence.arrays["robust"] for e in entries], axis=1)
    rows = attack_rows([e.evidence.facts_as(RobustnessFacts) for e in entries], 0.1)
    assert sum(row.broke for row in rows) == (robust[3] == 0).sum()
    assert rows[0].tried == 100


def test_the_comparison_is_paired_on_the_examples_both_saw(document: AuditDocument) -> None:
    row = next(row for row in document.comparison if row.quantity == "robust linf 0.1")
    results = made_results()
    before, after = (results.per_example("robustness", "robust", role=role) > 0 for role in ("standard", "hardened"))
    assert (row.newly_wrong, row.newly_right) == ((before & ~after).sum(), (after & ~before).sum())
    assert row.difference == pytest.approx(after.mean() - before.mean())


def test_the_gallery_shows_adversarial_examples_only_where_there_are_any(document: AuditDocument) -> None:
    broken = made_results().array("robustness", "broken_by", role="standard", axis=1)
    assert broken is not None
    for i, item in enumerate(document.gallery):
        view = item.views[0]
        assert (view.adversarial is not None) == (broken[3][i] > 0)
        assert (view.broken_by == "clean") == (broken[3][i] == 0)
        assert (view.adversarial_prediction == CLASSES[(i + 1) % 10]) == (view.adversarial is not None)
        assert set(view.adversarial_maps) == (set(view.maps) if view.adversarial else set())


def test_gallery_pictures_are_the_images(document: AuditDocument) -> None:
    for item, image in zip(document.gallery, pictures(24), strict=False):
        np.testing.assert_array_equal(decoded(item.image), image[0])


def test_no_images_leaves_no_picture_in_the_document() -> None:
    document = build_document(made_results(), made_config(report={"images": False}), made_facts())
    assert document.gallery == []
    assert "base64" not in to_json(document) and '"data": "iVBOR' not in to_json(document)


def test_a_run_of_one_model_without_attacks_still_has_a_document() -> None:
    document = build_document(results_of(accuracy_entry("standard", 0.9)), made_config(), made_facts())
    assert document.robustness == [] and document.comparison == []
    assert document.summary.verdict in ("pass", "fail", "inconclusive")


def test_an_empty_run_is_not_run() -> None:
    document = build_document(results_of(), made_config(), made_facts())
    assert document.summary.verdict == "not_run"
    assert "no verdict" in document.summary.sentence


def test_what_failed_is_listed_and_leaves_the_run_incomplete() -> None:
    broken = entry("explanation", "standard", {}, method="lime", status="failed", reason="Out of memory.")
    document = build_document(results_of(accuracy_entry("standard", 0.9), broken), made_config(), made_facts())
    assert not document.summary.complete
    assert [(gap.method, gap.status, str(gap.reason)) for gap in document.gaps] == [
        ("lime", "failed", "Out of memory.")
    ]


def test_paths_of_this_machine_do_not_leave_it() -> None:
    config = made_config(data={"source": "folder:/home/somebody/secret/cats"})
    text = to_json(build_document(made_results(), config, made_facts()))
    assert "somebody" not in text and "folder:cats" in text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/home/me/model.pt is gone", "model.pt is gone"),
        ("--model C:\\Users\\me\\model.pt", "--model model.pt"),
        ("~/data/cats", "cats"),
        ("https://example.org/a/b", "https://example.org/a/b"),
        ("eps 8/255 and T-shirt/top", "eps 8/255 and T-shirt/top"),
        ("</script>", "</script>"),
    ],
)
def test_only_absolute_paths_are_cut(text: str, expected: str) -> None:
    assert without_paths(text) == expected


def test_unseen_characters_are_written_out() -> None:
    assert visible("a\u202eb\x1b[31m\u200b") == "a<U+202E>b<U+001B>[31m<U+200B>"
    assert visible("Grüße, 衬衫") == "Grüße, 衬衫"


def test_json_can_stand_inside_a_page() -> None:
    hostile = ("</script><script>alert(1)</script>", *CLASSES[1:])
    text = to_json(build_document(made_results(), made_config(), made_facts(classes=hostile)))
    assert "<" not in text and "\\u003c/script" in text
    assert json.loads(text)["subject"]["classes"][0] == hostile[0]


def test_a_document_of_a_newer_version_or_of_nothing_is_refused(document: AuditDocument, tmp_path: Path) -> None:
    newer = tmp_path / "newer.json"
    newer.write_text(to_json(document.model_copy(update={"schema_version": 99})))
    with pytest.raises(UsageError, match="schema version 99"):
        read_document(newer)
    for text in ("", "[]", "{}", '{"schema_version": 1}'):
        (tmp_path / "bad.json").write_text(text)
        with pytest.raises(UsageError, match="not an audit document"):
            read_document(tmp_path / "bad.json")
    with pytest.raises(UsageError, match="Cannot read"):
        read_document(tmp_path / "absent.json")


def test_heatmaps_put_zero_in_the_middle_when_signed() -> None:
    found = heatmap(np.array([[[-2.0, 0.0, 1.0]]]), signed=True)
    assert found.scale == 2.0
    assert decoded(found.picture).tolist() == [[0, 128, 192]]
    assert decoded(heatmap(np.array([[[0.0, 0.5, 1.0]]]), signed=False).picture).tolist() == [[0, 128, 255]]


def test_maps_of_one_model_share_a_scale_on_which_a_faint_one_looks_faint() -> None:
    strong, faint = np.array([[[-2.0, 0.0, 3.0]]]), np.array([[[0.0, 0.25, -0.5]]])
    shared = [heatmap(one, signed=True, scale=2.0) for one in (strong, faint)]
    assert [(one.scale, one.largest) for one in shared] == [(2.0, 3.0), (2.0, 0.5)]
    assert decoded(shared[0].picture).tolist() == [[0, 128, 255]]
    assert decoded(shared[1].picture).tolist() == [[128, 144, 96]]
    assert decoded(heatmap(faint, signed=True, scale=0.0).picture).tolist() == [[128, 128, 128]]


def test_the_gallerys_maps_share_a_scale_by_method_and_model_and_carry_their_own_size(document: AuditDocument) -> None:
    for role in ("standard", "hardened"):
        views = [view for item in document.gallery for view in item.views if view.role == role]
        for method in views[0].maps:
            drawn = [view.maps[method] for view in views]
            drawn += [view.adversarial_maps[method] for view in views if method in view.adversarial_maps]
            assert len({one.scale for one in drawn}) == 1
            clean = [view.maps[method].largest or 0 for view in views]
            assert sum(size > drawn[0].scale for size in clean) <= 0.15 * len(clean)


def test_a_blank_map_is_drawn_blank() -> None:
    assert heatmap(np.zeros((1, 2, 2)), signed=False).scale == 0
    assert decoded(heatmap(np.zeros((1, 2, 2)), signed=False).picture).max() == 0


def test_large_images_become_thumbnails() -> None:
    found = picture(pictures(1, size=224, channels=3)[0])
    assert (found.width, found.height, found.media_type) == (112, 112, "image/webp")
    assert len(found.data) < 8000


def test_other_studies_show_their_measurements_beside_their_controls(document: AuditDocument) -> None:
    rows = {(row.study, row.role, row.name): row for row in document.measures}
    infidelity = rows["attribution-quality", "standard", "infidelity"]
    assert infidelity.low <= infidelity.mean <= infidelity.high < infidelity.controls["random"]
    assert not any(name.endswith("_random") for _, _, name in rows)
    assert rows["attribution-quality", "hardened", "randomisation_similarity"].n == 23
    moved = {(row.method, row.condition) for row in document.measures if row.study == "drift"}
    assert ("lime", "manipulation") in moved and ("integrated-gradients", "constant-label") in moved


def test_certificates_are_a_lower_bound_at_the_eps_attacked(document: AuditDocument) -> None:
    part = next(part for part in document.certificates if part.role == "hardened")
    attacked = next(part for part in document.robustness if part.role == "hardened")
    assert [point.eps for point in part.curve] == [point.eps for point in attacked.curve]
    shares = [point.robust.estimate for point in part.curve]
    assert shares == sorted(shares, reverse=True) and shares[0] > shares[3] > shares[4] == 0.0
    assert all(low.robust.estimate <= up.robust.estimate for low, up in zip(part.curve, attacked.curve, strict=True))
    assert part.curve[0].robust.method.startswith("Clopper-Pearson")


def test_the_tool_is_no_model_of_the_run(document: AuditDocument) -> None:
    """Its calibration is planned first, and still the verdict is on the standard model."""
    assert document.models[0].role == "standard" and len(document.oracles) == 2
    assert "standard model" in document.summary.sentence
    assert [view.role for view in document.gallery[0].views] == ["standard", "hardened"]
    assert all(row.quantity for row in document.comparison) and len(document.comparison) == 2


def test_entries_of_two_threat_models_stay_apart() -> None:
    first = robustness_entry("standard", 1, pictures(4), np.ones(30))
    task, evidence = robustness_entry("standard", 1, pictures(4), np.ones(30))
    from dataclasses import replace

    cell = replace(task.cell, threat={"norm": "l2", "eps": 0.1})
    results: RunResults = results_of(
        accuracy_entry("standard", 0.9), first, (replace(task, cell=cell), replace(evidence, cell=cell))
    )
    document = build_document(results, made_config(), made_facts())
    assert [part.norm for part in document.robustness] == ["linf", "l2"]
