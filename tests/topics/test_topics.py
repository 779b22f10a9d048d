"""Topics are found, their declarations fit the rest of the package, and two may not share a name."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import reduce
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from audit.config import PRESETS, load_config
from audit.core import topic as topic_module
from audit.core.errors import SetupError, UsageError
from audit.core.registry import methods
from audit.core.topic import Topic, current_name, measured_sections, sections, topic_of, topics
from audit.document.schema import document_type
from audit.planning.time_budget import minimum_examples

Install = Callable[..., None]

OUTSIDE = """
from audit.core.topic import Topic
from audit.document.model import DocumentModel

class Row(DocumentModel):
    role: str

TOPIC = Topic(name={name!r}, section={section!r}, order=9000, document={{{field!r}: Row}})
"""


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Installs another distribution's package with a topic, or with whatever text is given."""

    def install(package: str, text: str, **modules: str) -> None:
        (tmp_path / package).mkdir()
        for name, content in {"__init__": text, **modules}.items():
            (tmp_path / package / f"{name}.py").write_text(content)
        monkeypatch.syspath_prepend(str(tmp_path))
        monkeypatch.delitem(sys.modules, package, raising=False)
        points = [EntryPoint(package, package, "audit.topics")]
        monkeypatch.setattr(topic_module, "entry_points", lambda group: points)
        monkeypatch.setattr(topic_module, "topics", topic_module.topics.__wrapped__)

    return install


def value_at(key: str) -> object:
    """The value of a dotted configuration key. Raises AttributeError where there is none."""
    return reduce(getattr, key.split("."), load_config())


def test_a_topic_of_another_distribution_stands_among_those_that_ship(install: Install) -> None:
    shipped, those = [topic.name for topic in topics()], sections()
    install("outside", OUTSIDE.format(name="sharpness", section="sharpness", field="sharpness"), plan="")
    assert [topic.name for topic in topic_module.topics()] == [*shipped, "sharpness"]
    assert sections() == (*those, "sharpness") and measured_sections()[-1] == "sharpness"


def test_two_topics_of_one_name_are_refused(install: Install) -> None:
    install("outside", OUTSIDE.format(name="backdoor", section="robustness", field="other_triggers"))
    with pytest.raises(UsageError, match=r"name 'backdoor': audit\.topics\.backdoor and outside"):
        topic_module.require_plugins()


def test_two_topics_with_one_field_of_the_document_are_refused(install: Install) -> None:
    install("outside", OUTSIDE.format(name="sharpness", section="robustness", field="triggers"))
    with pytest.raises(UsageError, match=r"field 'triggers': audit\.topics\.backdoor and outside"):
        topic_module.require_plugins()


def test_a_package_without_a_topic_is_refused_by_name(install: Install) -> None:
    install("outside", "TOPIC = 'sharpness'")
    with pytest.raises(SetupError, match="outside is registered as a topic and holds no TOPIC"):
        topic_module.require_plugins()


def test_a_section_of_another_distribution_can_be_asked_for_alone(install: Install) -> None:
    with pytest.raises(UsageError, match="Unknown section 'sharpness'"):
        load_config(overrides={"only": ["sharpness"]})
    install("outside", OUTSIDE.format(name="sharpness", section="sharpness", field="sharpness"), plan="")
    assert load_config(overrides={"only": ["sharpness"]}).only == ("sharpness",)


@pytest.mark.parametrize("section", measured_sections())
def test_every_measured_section_can_be_asked_for_alone(section: str) -> None:
    assert load_config(overrides={"only": [section]}).only == (section,)


@pytest.mark.parametrize("section", sorted(set(sections()) - set(measured_sections())))
def test_a_section_that_plans_nothing_of_a_model_cannot_be_asked_for_alone(section: str) -> None:
    with pytest.raises(UsageError, match=f"Unknown section '{section}'"):
        load_config(overrides={"only": [section]})


def test_every_study_belongs_to_one_topic_and_every_topic_names_studies_there_are() -> None:
    named = [study for topic in topics() for study in topic.studies]
    assert sorted(named) == [method.name for method in methods("study")]


@pytest.mark.parametrize("kind", ["study", "check"])
def test_studies_and_checks_that_ship_stand_in_the_folder_of_their_topic(kind: str) -> None:
    packages = {topic.package for topic in topics()}
    for method in methods(kind):  # type: ignore[arg-type]
        package = method.function.__module__.rpartition(".")[0]
        assert package in packages, method.name
        if kind == "study":
            topic = topic_of(method.name)
            assert topic is not None and topic.package == package, method.name


def test_least_numbers_of_examples_are_keys_of_the_configuration() -> None:
    assert len(minimum_examples()) >= 8
    for key, least in minimum_examples().items():
        assert isinstance(value_at(key), int), key
        assert least > 0


@pytest.mark.parametrize("topic", topics(), ids=lambda topic: topic.name)
def test_the_keys_that_a_study_costs_by_are_keys_of_the_configuration(topic: Topic) -> None:
    for keys in topic.studies.values():
        for key in keys.split(", ") if "." in keys else ():
            assert value_at(key.partition(".METHOD")[0]) is not None, key


@pytest.mark.parametrize("topic", topics(), ids=lambda topic: topic.name)
def test_the_presets_of_a_topic_are_presets_and_take_effect(topic: Topic) -> None:
    assert topic.presets.keys() <= PRESETS.keys()
    for preset, values in topic.presets.items():
        table = getattr(load_config(preset=preset), topic.name)
        assert {key: getattr(table, key) for key in values} == dict(values)


@pytest.mark.parametrize("topic", topics(), ids=lambda topic: topic.name)
def test_former_names_are_out_of_use_and_lead_to_names_in_use(topic: Topic) -> None:
    used = {method.name for kind in ("study", "check") for method in methods(kind)}  # type: ignore[arg-type]
    used |= document_type().model_fields.keys()
    for former, name in topic.former_names.items():
        assert former not in used and name in used
        assert current_name(former) == current_name(name) == name


def test_every_field_of_a_topic_is_a_field_of_the_document() -> None:
    for topic in topics():
        for name, kind in topic.document.items():
            assert document_type().model_fields[name].annotation == list[kind]  # type: ignore[valid-type]
