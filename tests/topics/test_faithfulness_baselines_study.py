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
