"""What a study measures is a model of its own: what was not set is not stored, and what another stored is refused."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from made_entries import entry, pictures, robustness_entry
from pydantic import ValidationError

from audit.adversarial.attack_result import AttackResult
from audit.core.cell import Cell, StudySettings
from audit.core.evidence import Evidence, Facts
from audit.results.facts import ExplanationFacts, ModelFacts
from audit.topics.backdoor.facts import BackdoorFacts, TriggerFacts
from audit.topics.certification.facts import CertificationFacts
from audit.topics.robustness.facts import RobustnessFacts, RobustnessSettings
from audit.topics.training.facts import TrainingFacts

MODULES = [f"audit.topics.{path.parent.name}.facts" for path in Path("audit/topics").glob("*/facts.py")]


def models() -> Iterator[type[Facts] | type[StudySettings]]:
    for name in MODULES:
        for value in vars(importlib.import_module(name)).values():
            if isinstance(value, type) and issubclass(value, Facts | StudySettings):
                yield value


def test_every_model_of_facts_and_settings_is_immutable_and_says_what_its_fields_are() -> None:
    found = list(models())
    assert len(found) > 20
    for model in found:
        assert model.model_config["frozen"], model
        own = set(model.__annotations__) - {"model_config"}
        assert all(f"{name}:" in (model.__doc__ or "") for name in own), (model, own)


def test_facts_that_were_not_set_are_not_stored() -> None:
    facts = ExplanationFacts(output="logit", baseline=None, on="clean", examples=4)
    assert facts.dump() == {"output": "logit", "baseline": None, "on": "clean", "examples": 4}


def test_a_methods_own_facts_stand_beside_those_of_every_explanation() -> None:
    stored = {"output": "logit", "layer": "features.3", "on": "clean", "examples": 4}
    facts = Evidence(Cell("explanation", "grad-cam"), "measured", facts=stored).facts_as(ExplanationFacts)
    assert facts.dump() == stored and facts.segments is None


def test_facts_are_json_and_read_back_as_they_were() -> None:
    attack = AttackResult(name="pgd", settings={"window": (3, 3)}, eps=0.1, tried=4, broke=3)
    facts = RobustnessFacts(norm="linf", eps=(0.1,), attacks=("clean", "pgd"), rows=(attack,))
    stored = facts.dump()
    assert stored["rows"] == [{"name": "pgd", "settings": {"window": [3, 3]}, "eps": 0.1, "tried": 4, "broke": 3}]
    assert Evidence(Cell("robustness", "quick"), "measured", facts=stored).facts_as(RobustnessFacts).eps == (0.1,)


def test_class_is_a_name_in_evidence_and_label_in_code() -> None:
    trigger = TriggerFacts(label="cat", area=0.1, anomaly=1.0, moved=3, tried=4, reached=True)
    stored = BackdoorFacts(triggers=(trigger,), made_on=8).dump()
    assert stored["triggers"][0]["class"] == "cat" and "label" not in stored["triggers"][0]
    assert BackdoorFacts.model_validate(stored).triggers == (trigger,)


def test_facts_of_another_study_are_refused() -> None:
    _, evidence = robustness_entry("standard", 1.0, pictures(2), np.ones(4))
    with pytest.raises(ValidationError):
        evidence.facts_as(CertificationFacts)


def test_what_is_common_to_models_is_read_from_any_that_was_made_here() -> None:
    stored = TrainingFacts(history=({"epoch": 1},), mean=(0.5,), std=(0.2,), parameters=10, kept_epoch=1).dump()
    _, evidence = entry("training", "standard", {}, facts=stored)
    facts = evidence.facts_as(ModelFacts)
    assert (facts.mean, facts.parameters, facts.cut, facts.history) == ((0.5,), 10, False, ({"epoch": 1},))


def test_settings_that_were_not_set_do_not_enter_the_key_of_a_cell() -> None:
    settings = RobustnessSettings(eps=(0.1,), headline=0.1)
    assert settings.dump() == {"eps": (0.1,), "headline": 0.1}
    by_hand = Cell("robustness", "quick", settings={"eps": [0.1], "headline": 0.1})
    assert Cell("robustness", "quick", settings=settings.dump()).key == by_hand.key
    assert RobustnessSettings.of(by_hand) == settings
