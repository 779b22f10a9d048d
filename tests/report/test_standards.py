"""Every check bears on a clause of a standard or is listed as bearing on none, and the report says which it has."""

from __future__ import annotations

import re

import pytest
from made_run import made_document, made_page

from audit.core.registry import methods
from audit.core.topic import topics
from audit.report.standards import clauses, coverage, unmapped

SECTIONS = {topic.section for topic in topics() if topic.section}
ALWAYS = {"protocol", "limits"}
CHECKS = {check.name: str(check.facts["section"]) for check in methods("check")}


def mapped_sections() -> set[str]:
    return {name for clause in clauses() for name in clause.sections}


def mapped_checks() -> set[str]:
    return {name for clause in clauses() for name in clause.checks}


@pytest.mark.parametrize("check", sorted(CHECKS))
def test_every_check_bears_on_a_clause_or_is_listed_as_unmapped(check: str) -> None:
    bears = CHECKS[check] in mapped_sections() or check in mapped_checks()
    assert bears != (check in unmapped()), f"map {check} in templates/standards.toml, or list it under [unmapped]"


@pytest.mark.parametrize("section", sorted(SECTIONS))
def test_every_section_bears_on_a_clause_or_is_listed_as_unmapped(section: str) -> None:
    assert (section in mapped_sections()) != (section in unmapped())


def test_the_mapping_names_only_what_there_is() -> None:
    assert mapped_sections() <= SECTIONS | ALWAYS
    assert mapped_checks() <= CHECKS.keys()
    assert unmapped().keys() <= SECTIONS | CHECKS.keys()
    assert all(unmapped().values())
    assert len({(clause.standard, clause.clause) for clause in clauses()}) == len(clauses())


def test_a_single_check_is_named_where_its_section_does_not_bear_on_the_clause() -> None:
    for clause in clauses():
        assert clause.sections or clause.checks
        assert not {CHECKS[name] for name in clause.checks} & set(clause.sections), clause


def test_a_classifier_is_not_said_to_lack_sections_of_detectors_nor_a_detector_those_of_classifiers() -> None:
    document = made_document()
    named = {name for row in coverage(document) for name in (*row.present, *row.missing)}
    assert not any(name.startswith("detection") for name in named) and "slices" in named
    rows = coverage(document, task="detection")
    named = {name for row in rows for name in (*row.present, *row.missing)}
    assert {"detection_accuracy", "detection_robustness", "limits"} <= named
    assert not named & {"slices", "robustness", "data_health"}
    assert not any(row.checks or row.unchecked for row in rows)


def test_clauses_of_one_standard_stand_together() -> None:
    names = [clause.standard for clause in clauses()]
    assert names == sorted(names, key=names.index)  # the page names each once


def test_the_page_links_a_check_to_its_finding() -> None:
    document, page = made_document(), made_page("en")
    asked = {finding.check for finding in document.findings}
    row = next(row for row in coverage(document) if "backdoor" in row.clause.checks)
    assert "backdoor" in row.checks and "influence" in row.unchecked
    assert set(row.checks) | set(row.unchecked) == set(row.clause.checks) and set(row.checks) == asked & set(
        row.clause.checks
    )
    part = page[page.index('id="standards"') :]
    for name in row.checks:
        anchor = re.search(rf'<a href="#(finding-\d+)">{name}</a>', part)
        assert anchor and f'id="{anchor[1]}"' in page
