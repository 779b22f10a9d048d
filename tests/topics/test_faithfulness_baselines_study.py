from dataclasses import replace

import numpy as np
import pytest
import torch
from bare_context import bare_context

from audit.core.cell import Cell
from audit.core.errors import NotApplicable
from audit.core.evidence import Evidence
from audit.core.types import Batch
from audit.models.under_test import ModelUnderTest
from audit.topics.explanations.study import explanation
from audit.topics.faithfulness.baselines_study import faithfulness_baselines
from audit.topics.faithfulness.study import faithfulness

SETTINGS = {"steps": 6}


def test_controls_measured_once_are_those_measured_with_each_method(
    cnn_model: ModelUnderTest, cnn_batch: Batch
) -> None:
    asked = Cell("explanation", "saliency", settings={"method": {}, "output": "logit", "baseline": None})
    inputs = {"explanation": explanation(bare_context(cnn_model, cnn_batch, asked), asked)}
    once = Cell("faithfulness-baselines", "removal", settings=SETTINGS)
    inputs["controls"] = faithfulness_baselines(bare_context(cnn_model, cnn_batch, once), once)

    def judged(*names: str) -> Evidence:
        cell = Cell(
            "faithfulness", "saliency", settings=SETTINGS, inputs={name: inputs[name].cell.key for name in names}
        )
        return faithfulness(replace(bare_context(cnn_model, cnn_batch, cell), evidence=inputs.__getitem__), cell)

    alone, shared = judged("explanation"), judged("explanation", "controls")
    assert {m.name for m in alone.measurements} == {m.name for m in shared.measurements}
    for measurement in alone.measurements:
        np.testing.assert_allclose(
            measurement.per_example,
            shared.measurement(measurement.name).per_example,
            atol=1e-6,
            err_msg=measurement.name,
        )
    assert shared.forwards < 0.5 * alone.forwards


def test_a_net_without_an_answer_to_one_colour_has_no_faithfulness(cnn_model: ModelUnderTest, cnn_batch: Batch) -> None:
    class Standardised(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            axes = (1, 2, 3)
            return (images - images.mean(axes, keepdim=True)).flatten(1)[:, : len(cnn_model.classes)] / images.std(
                axes
            )[:, None]

    model = ModelUnderTest(
        Standardised(), classes=cnn_model.classes, input_shape=cnn_model.input_shape, device=cnn_model.device
    )
    cell = Cell("faithfulness-baselines", "removal", settings=SETTINGS)
    with pytest.raises(NotApplicable, match="spread of a picture of one colour"):
        faithfulness_baselines(bare_context(model, cnn_batch, cell), cell)


def test_methods_ask_no_end_of_a_curve_that_the_controls_asked(cnn_model: ModelUnderTest, cnn_batch: Batch) -> None:
    """Ten images, two fills: what is asked is the steps between the ends, and the ends once under each fill."""
    asked = Cell("explanation", "saliency", settings={"method": {}, "output": "logit", "baseline": None})
    inputs = {"explanation": explanation(bare_context(cnn_model, cnn_batch, asked), asked)}
    once = Cell("faithfulness-baselines", "removal", settings=SETTINGS)
    inputs["controls"] = faithfulness_baselines(bare_context(cnn_model, cnn_batch, once), once)
    cell = Cell("faithfulness", "saliency", settings=SETTINGS, inputs={name: inputs[name].cell.key for name in inputs})
    judged = faithfulness(replace(bare_context(cnn_model, cnn_batch, cell), evidence=inputs.__getitem__), cell)
    between = 2 * 2 * 5
    assert inputs["controls"].forwards == 10 * (1 + 2 * 2 + 4 * between)
    assert judged.forwards == 10 * 2 * between
    deletion, insertion = (judged.arrays[f"{mode}_curve"] for mode in ("deletion", "insertion"))
    for curve in (inputs["controls"].arrays["deletion_curve_random"], insertion[:, ::-1]):
        assert np.array_equal(deletion[:, [0, -1]], curve[:, [0, -1]])


def test_few_steps_tell_as_much_of_an_advantage_as_many(cnn_model: ModelUnderTest, cnn_batch: Batch) -> None:
    """What eight steps get wrong of the area is less than the standard error, and against the map: trapezoids overstate
    a curve that falls steeply first. The spread between images, which the verdict rests on, is the same."""
    asked = Cell("explanation", "integrated-gradients", settings={"method": {}, "output": "logit", "baseline": None})
    explained = explanation(bare_context(cnn_model, cnn_batch, asked), asked)

    def advantage(steps: int) -> np.ndarray:
        cell = Cell("faithfulness", "integrated-gradients", settings={"steps": steps, "fills": ["mean"]})
        context = replace(
            bare_context(cnn_model, cnn_batch, cell), evidence=lambda name: {"explanation": explained}[name]
        )
        judged = faithfulness(context, cell)
        areas = (judged.measurement(f"deletion_area{order}").per_example for order in ("_random", ""))
        return np.subtract(*areas)

    few, many = advantage(8), advantage(72)
    assert 0 <= many.mean() - few.mean() < many.std(ddof=1) / len(many) ** 0.5
    assert abs(few.std() / many.std() - 1) < 0.1


def test_a_map_is_blurred_as_a_control_only_where_that_is_asked(cnn_model: ModelUnderTest, cnn_batch: Batch) -> None:
    asked = Cell("explanation", "saliency", settings={"method": {}, "output": "logit", "baseline": None})
    explained = explanation(bare_context(cnn_model, cnn_batch, asked), asked)
    whole, few = (
        faithfulness(
            replace(bare_context(cnn_model, cnn_batch, cell), evidence=lambda name: {"explanation": explained}[name]),
            cell,
        )
        for cell in (
            Cell("faithfulness", "saliency", settings=SETTINGS | {"fills": ["mean"], "blurred": blurred})
            for blurred in (True, False)
        )
    )
    assert {m.name for m in whole.measurements} - {m.name for m in few.measurements} == {
        "deletion_area_blurred",
        "insertion_area_blurred",
    }
    for measurement in few.measurements:
        assert np.array_equal(measurement.per_example, whole.measurement(measurement.name).per_example)
    assert whole.forwards - few.forwards == 10 * 2 * 5
    assert "blurred" in str(whole.facts["protocol"]["text"]) and "blurred" not in str(few.facts["protocol"]["text"])
