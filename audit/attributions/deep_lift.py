"""DeepLIFT and DeepSHAP without hooks, on a copy that passed the preflight, complete also across max-pooling.

Not captum's: its max-pool rule loses what the reference's winners held, up to half of the difference on a baseline
that is not constant (measured with captum 0.9).
"""

from __future__ import annotations

import torch
from torch import Tensor, fx, nn

from audit.core.errors import NotApplicable
from audit.core.registry import attribution
from audit.core.types import Images
from audit.explanation.fx_interpreters import ActivationRecorder, RescaleRule, normalised, target_logits
from audit.explanation.fx_rewrite import ACTIVATIONS, check_supported_layers, with_module_activations
from audit.explanation.spec import Attribution, ExplanationSpec
from audit.models.batching import in_batches
from audit.models.under_test import ModelUnderTest

_LINEAR = (
    nn.Conv2d,
    nn.Linear,
    nn.BatchNorm2d,
    nn.BatchNorm1d,
    nn.AvgPool2d,
    nn.AdaptiveAvgPool2d,
    nn.Flatten,
    nn.Dropout,
    nn.Dropout2d,
    nn.Identity,
    nn.ZeroPad2d,
)
"""Layers that are linear in eval mode, where the gradient is the rule."""


@attribution(reference="arXiv:1704.02685", needs="gradients", signed=True, baseline=0.0)
def deep_lift(model: ModelUnderTest, images: Images, explained: ExplanationSpec) -> Attribution:
    """Each activation's finite slope between image and baseline in place of its derivative (the rescale rule).

    Attributions sum to output(image) - output(baseline); quality `completeness_residual` says by how much they miss
    it. Raises NotApplicable, naming the layer, where a rule is missing, and for outputs other than the logit. Units:
    output.
    """
    return _against(model, images, explained, explained.baseline[:, None])


@attribution(reference="arXiv:1705.07874", needs="gradients", signed=True, baseline=0.0, references=True)
def deep_shap(model: ModelUnderTest, images: Images, explained: ExplanationSpec) -> Attribution:
    """DeepLIFT averaged over `ExplanationSpec.references`: approximate Shapley values of pixels against a background.

    Without references the baseline stands alone and the answer is DeepLIFT's. Quality, errors and units as there.
    """
    if explained.references is None:
        return _against(model, images, explained, explained.baseline[:, None])
    return _against(model, images, explained, explained.references[None].expand(len(images), -1, -1, -1, -1))


def _against(model: ModelUnderTest, images: Images, explained: ExplanationSpec, references: Tensor) -> Attribution:
    """The mean map over `references` (N, B, C, H, W)."""
    if explained.output != "logit" or model.output_kind not in ("logits", "one logit"):
        raise NotApplicable(
            "DeepLIFT has no rule for the softmax between logits and probabilities; explain the logit of a model that "
            "gives logits."
        )
    net = with_module_activations(model.net)
    check_supported_layers(net, (*ACTIVATIONS, nn.MaxPool2d, *_LINEAR), "DeepLIFT")
    total, gap = torch.zeros_like(images), torch.zeros(len(images), device=images.device)
    for number in range(references.shape[1]):
        maps, gaps = _lift(model, net, images, references[:, number], explained)
        total, gap = total + maps, gap + gaps
    count = references.shape[1]
    residual = (total.flatten(1).sum(1) - gap).abs() / count
    return Attribution(total / count, {"completeness_residual": residual})


def _lift(
    model: ModelUnderTest, net: fx.GraphModule, images: Images, references: Images, explained: ExplanationSpec
) -> tuple[Images, Tensor]:
    """Maps against one reference each, and the differences of output they should sum to."""

    def one(part: slice) -> tuple[Images, Tensor]:
        targets = explained.targets[part]
        reference = ActivationRecorder(net)
        with torch.no_grad():
            before = target_logits(model, reference.run(normalised(model, references[part])), targets)
        with torch.enable_grad():
            leaf = images[part].detach().clone().requires_grad_(True)
            after = target_logits(model, RescaleRule(net, reference.values).run(normalised(model, leaf)), targets)
            (multipliers,) = torch.autograd.grad(after.sum(), leaf)
        return multipliers * (images[part] - references[part]), after.detach() - before

    maps, gaps = (torch.cat(column) for column in zip(*in_batches(len(images), model.layout, one), strict=True))
    return maps, gaps
