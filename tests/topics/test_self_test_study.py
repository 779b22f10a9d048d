"""The tool solves its oracles, and a tool that is wrong is caught by them."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any

import pytest
import torch
from bare_context import bare_context

from audit.core import method_table, registry
from audit.core.cell import Cell
from audit.core.types import Batch
from audit.explanation import self_test as oracles
from audit.explanation.spec import Attribution
from audit.models.under_test import ModelUnderTest
from audit.topics.self_test.study import self_test


def test_every_oracle_holds_on_this_device(cnn_model: ModelUnderTest, cnn_batch: Batch) -> None:
    cell = Cell("self-test", "attributions")
    found = self_test(bare_context(cnn_model, cnn_batch, cell), cell)
    broken = [row for row in found.facts["oracles"] if not row["holds"]]
    assert broken == []
    assert found.facts["holding"] == len(found.measurement("error").per_example) >= 20
    assert {row["problem"]["text"] for row in found.facts["oracles"]} >= {
        "linear model",
        "patch detector",
        "game: both of two",
    }


@pytest.mark.parametrize("fault", ["scaled", "shifted", "missing"])
@pytest.mark.parametrize("name", ["saliency", "occlusion", "shap"])
def test_a_wrong_method_is_caught(name: str, fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    method = registry.find("attribution", name)

    @functools.wraps(method.function)
    def wrong(*arguments: Any, **settings: Any) -> Attribution:
        answer: Attribution = method.function(*arguments, **settings)
        maps = answer.attributions
        spoilt = {"scaled": maps * 1.01, "shifted": maps.roll(1, 3), "missing": maps * torch.nan}[fault]
        return replace(answer, attributions=spoilt)

    monkeypatch.setitem(method_table._METHODS, ("attribution", name), replace(method, function=wrong))
    caught = [one.method for one in oracles._linear(torch.device("cpu")) if not one.holds]
    assert any(one.split(" ")[0] == name for one in caught)
