"""LRP: relevance divided layer by layer, and refused where it is not conserved."""

from __future__ import annotations

import torch
from torch import Tensor

from audit.core.errors import NotApplicable
from audit.core.registry import attribution
from audit.core.types import Images
from audit.explanation.fx_interpreters import normalised, target_logits
from audit.explanation.fx_rewrite import check_supported_layers, with_module_activations
from audit.explanation.lrp_rules import MIXING, PASSING, ROUTING, WEIGHTED, propagate_relevance
from audit.explanation.spec import Attribution, ExplanationSpec
from audit.models.batching import in_batches
from audit.models.under_test import ModelUnderTest

LOST = 0.01
"""More than this share of the logit unaccounted for, and the map is refused."""


@attribution(reference="doi:10.1371/journal.pone.0130140", needs="gradients", signed=True)
def lrp(model: ModelUnderTest, images: Images, explained: ExplanationSpec, *, gamma: float = 0.25) -> Attribution:
    """The logit divided backwards among what made it up: epsilon rule for dense layers, `gamma` for convolutions.

    Pixels and biases together hold the whole logit; quality `conservation_error` is the share they miss and
    `bias_share` what the biases keep. Batch normalisation is folded into its convolution, on a copy. Raises
    NotApplicable, naming the layer, where a rule is missing, and where conservation fails. Units: output.
    """
    from torch.fx.experimental.optimization import fuse

    if explained.output != "logit" or model.output_kind != "logits":
        raise NotApplicable("LRP divides a logit; explain the logit of a model that gives logits.")
    net = with_module_activations(fuse(with_module_activations(model.net)))
    check_supported_layers(net, (*PASSING, *ROUTING, *WEIGHTED, *MIXING), "LRP")

    def one(part: slice) -> tuple[Tensor, Tensor, Tensor]:
        targets = explained.targets[part]
        chosen = torch.zeros(len(targets), len(model.classes), device=images.device)
        chosen.scatter_(1, targets[:, None], 1.0)
        logits: list[Tensor] = []

        def start(outputs: Tensor) -> Tensor:
            logits.append(target_logits(model, outputs, targets))
            return outputs * chosen

        found = propagate_relevance(net, normalised(model, images[part]), start, gamma)
        model.module.meter.backwards += len(targets)
        return found.at_input, found.in_biases, logits[0]

    maps, biases, logits = (torch.cat(c) for c in zip(*in_batches(len(images), model.layout, one), strict=True))
    error = (maps.flatten(1).sum(1) + biases - logits).abs() / logits.abs().clamp(min=1e-6)
    if float(error.max()) > LOST:
        raise NotApplicable(
            f"LRP does not conserve relevance on this model: up to {float(error.max()):.0%} of the logit is "
            "unaccounted for, so its map would not explain it."
        )
    return Attribution(maps, {"conservation_error": error, "bias_share": biases / logits})
