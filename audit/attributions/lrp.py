"""LRP: relevance divided layer by layer, and refused where it is not conserved."""

from __future__ import annotations

import torch
from torch import Tensor

from audit.attributions.explained import Explained, Explanation
from audit.attributions.preflight import refuse_unless, rewritten
from audit.attributions.relevance import MIXING, PASSING, ROUTING, WEIGHTED, trace_back
from audit.attributions.replay import normalised, target_logits
from audit.errors import NotApplicable
from audit.models.batching import in_batches
from audit.models.under_test import ModelUnderTest
from audit.registry import attribution
from audit.types import Images

LOST = 0.01
"""More than this share of the logit unaccounted for, and the map is refused."""


@attribution(reference="doi:10.1371/journal.pone.0130140", needs="gradients", signed=True)
def lrp(model: ModelUnderTest, images: Images, explained: Explained, *, gamma: float = 0.25) -> Explanation:
    """The logit divided backwards among what made it up: epsilon rule for dense layers, `gamma` for convolutions.

    Pixels and biases together hold the whole logit; quality `conservation_error` is the share they miss and
    `bias_share` what the biases keep. Batch normalisation is folded into its convolution, on a copy. Raises
    NotApplicable, naming the layer, where a rule is missing, and where conservation fails. Units: output.
    """
    from torch.fx.experimental.optimization import fuse

    if explained.output != "logit" or model.output_kind != "logits":
        raise NotApplicable("LRP divides a logit; explain the logit of a model that gives logits.")
    net = rewritten(fuse(rewritten(model.net)))
    refuse_unless(net, (*PASSING, *ROUTING, *WEIGHTED, *MIXING), "LRP")

    def one(part: slice) -> tuple[Tensor, Tensor, Tensor]:
        targets = explained.targets[part]
        chosen = torch.zeros(len(targets), len(model.classes), device=images.device)
        chosen.scatter_(1, targets[:, None], 1.0)
        logits: list[Tensor] = []

        def start(outputs: Tensor) -> Tensor:
            logits.append(target_logits(model, outputs, targets))
            return outputs * chosen

        found = trace_back(net, normalised(model, images[part]), start, gamma)
        model.module.meter.backwards += len(targets)
        return found.at_input, found.in_biases, logits[0]

    maps, biases, logits = (torch.cat(c) for c in zip(*in_batches(len(images), model.layout, one), strict=True))
    error = (maps.flatten(1).sum(1) + biases - logits).abs() / logits.abs().clamp(min=1e-6)
    if float(error.max()) > LOST:
        raise NotApplicable(
            f"LRP does not conserve relevance on this model: up to {float(error.max()):.0%} of the logit is "
            "unaccounted for, so its map would not explain it."
        )
    return Explanation(maps, {"conservation_error": error, "bias_share": biases / logits})
