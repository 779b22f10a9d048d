"""Proofs that no image of a region is misclassified, from the cheapest bound to the dearest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from audit.bounds.activations import SIGMOID
from audit.bounds.graph import BoundGraph
from audit.bounds.ladder import Ladder
from audit.bounds.outcome import Budget, Outcome
from audit.bounds.propagate import ROWS
from audit.bounds.region import Region
from audit.bounds.rules import RULES
from audit.bounds.sweeps import CACHED
from audit.bounds.trace import trace
from audit.core.errors import NotApplicable
from audit.core.note import note
from audit.core.precise import precise, precise_device
from audit.core.types import PassCount
from audit.models.module_copy import copy_module
from audit.models.normalised_model import NormalisedModel
from audit.models.under_test import ModelUnderTest

_TIE = {"logits": 0.0, "one logit": 0.0, "probabilities": 1e-5, "one probability": 1e-5, "sigmoid": 1e-5}
"""By what the outputs mean, the margin that must be proven: after a softmax or sigmoid float32 ties within less."""
_AGREEMENT = 1e-3
"""Share of the largest logit by which the recorded graph may differ from the model in float32."""


class Prover:
    """Bounds of one model.

    What is proven is said of the model's float32 evaluation by direct summation in whatever order (see
    `audit.bounds.propagate`), for every image of the region.
    """

    def __init__(self, model: ModelUnderTest) -> None:
        """Records the model's forward.

        Args:
            model: The model.

        Raises:
            NotApplicable: It holds an operation without a rule, or its outputs are not scores of classes.
        """
        if model.output_kind not in _TIE:
            raise NotApplicable(
                note(
                    "bounds_outputs",
                    "Bounds need a model that scores classes; the outputs of this one are {kind}.",
                    kind=model.output_kind,
                )
            )
        if model.module.input_type != torch.float32:
            raise NotApplicable(
                note("bounds_number_type", "Bounds hold for nets in float32; this one computes in another number type.")
            )
        self.model, self.tie = model, _TIE[model.output_kind]
        # In the order of coefficients: weights in channels last would turn these, and every product after them.
        whole = copy_module(model.module).to(precise_device(model.device)).to(memory_format=torch.contiguous_format)
        whole.reader, whole.draws = replace(model.reader, kind="logits", guessed=False), 1
        self.graph, self.search = (_traced(whole, model, dtype) for dtype in (torch.float64, torch.float32))
        for graph in (self.graph, self.search):
            if model.output_kind in ("one probability", "sigmoid"):
                graph.output = self._before_sigmoid(graph)
        self.ladder = Ladder(self.graph, self.search, self.tie, self._batch_size())

    @property
    def passes(self) -> PassCount:
        """What the bounds have cost so far, see `BoundGraph.meter`."""
        return self.graph.meter.passes + self.search.meter.passes

    def check_agreement(self, images: Tensor) -> None:
        """Compare the recorded graph with the model.

        Args:
            images: Float (N, C, H, W) in [0, 1].

        Raises:
            NotApplicable: They differ by more than rounding: the forward does something that was not recorded.
        """
        recorded = self._classes(self.graph.evaluate(precise(images).to(self.graph.device))[self.graph.output])
        answers = precise(self.model.logits(images))
        if self.tie:  # Outputs are log-probabilities then: only differences are comparable.
            recorded, answers = recorded.log_softmax(1), answers.log_softmax(1)
            near = answers > -20
            recorded, answers = recorded.where(near, 0), answers.where(near, 0)
        gap = float((recorded - answers).abs().max())
        if not gap <= _AGREEMENT * max(1.0, float(answers.abs().max())):
            raise NotApplicable(
                note(
                    "bounds_disagree",
                    "Bounds do not hold for this model: its forward answers otherwise than the operations recorded of "
                    "it, by {gap} in a logit. It is random, branches on values or leaves torch.",
                    gap=f"{gap:.3g}",
                )
            )

    def prove(
        self,
        images: Tensor,
        predicted: Tensor,
        goal: Tensor,
        norm: str,
        radius: float,
        budget: Budget,
        *,
        stopping: Callable[[], bool] | None = None,
    ) -> list[Outcome]:
        """Prove or break each image.

        Args:
            images: Float (N, C, H, W) in [0, 1], none broken already.
            predicted: The class that is to stay the highest, int64 (N,).
            goal: The classes that may not become the prediction, bool (N, classes).
            norm: Norm of the ball.
            radius: Its radius.
            budget: How far to go.
            stopping: When it turns true, what is not decided stays open.
        """
        region = Region.ball(precise(images).to(self.graph.device), norm, radius)  # type: ignore[arg-type]
        return self.ladder.prove(
            region, self.margins(predicted, goal), self._breaks(images, predicted, goal, norm, radius), budget, stopping
        )

    def interval_proofs(self, region: Region, functions: Tensor) -> Tensor:
        """Whether intervals alone prove the functions of each row, bool (N,).

        Args:
            region: The inputs, float64.
            functions: As in `Ladder.prove`.
        """
        sweeps = self.ladder.sweeps
        return (sweeps.bounds(sweeps.values(region), region, functions, boxes_only=True) > self.tie).all(1)

    def margins(self, predicted: Tensor, goal: Tensor) -> Tensor:
        """Predicted logit less each logit of the goal, as functions of the net's outputs, float64 (N, S, outputs).

        Args:
            predicted: int64 (N,).
            goal: bool (N, classes).
        """
        classes = len(self.model.classes)
        predicted, goal = (values.to(precise_device(goal.device)) for values in (predicted, goal))
        eye = torch.eye(classes, dtype=torch.float64, device=goal.device)
        functions = (eye[predicted][:, None] - eye[None]) * goal[:, :, None]
        if self.graph.nodes[self.graph.output].shape == (1,):  # Logits (0, z).
            functions = functions[:, :, 1:]
        return functions.to(precise_device(self.model.device))

    def _before_sigmoid(self, graph: BoundGraph) -> int:
        """The logits behind a sigmoid at the end, which keeps their order."""
        node = graph.nodes[graph.output]
        if node.operation != SIGMOID:
            raise NotApplicable(
                note("bounds_no_sigmoid", "Bounds need a sigmoid as the last operation of a net of such outputs.")
            )
        return node.inputs[0]

    def _classes(self, outputs: Tensor) -> Tensor:
        return torch.cat([torch.zeros_like(outputs), outputs], 1) if outputs.shape[1] == 1 else outputs

    def _breaks(
        self, images: Tensor, predicted: Tensor, goal: Tensor, norm: str, radius: float
    ) -> Callable[[int, Tensor], Tensor]:
        """Whether points, as float32 images of the ball, have a prediction of the goal."""

        def breaks(row: int, points: Tensor) -> Tensor:
            near = points.float().clamp(0, 1)
            return goal[row].to(self.model.device)[self.model.predictions(near)]

        return breaks

    def _batch_size(self) -> int:
        largest = max(torch.Size(node.shape).numel() for node in self.graph.nodes)
        if self.model.device.type == "cpu":
            return max(1, min(64, CACHED // 8 // largest))
        return max(1, min(64, 4 * ROWS // (largest * max(2, len(self.model.classes)))))


def _traced(whole: NormalisedModel, model: ModelUnderTest, dtype: torch.dtype) -> BoundGraph:
    whole.input_type = dtype
    return trace(whole, model.input_shape, RULES, dtype)
