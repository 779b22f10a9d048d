"""Whether the model is a fixed function of one image, which an evaluation assumes before its first attack.

After the checklists of Athalye et al. 2018 (arXiv:1802.00420) and Carlini et al. 2019 (arXiv:1902.06705).
"""

from __future__ import annotations

import torch
from torch import Tensor

from audit.core.errors import ModelError
from audit.core.precise import precise
from audit.core.types import Images, Logits
from audit.models.under_test import ModelUnderTest


def repeat_difference(model: ModelUnderTest, images: Images, repeats: int = 5) -> Tensor:
    """How far the logits of the same images stray over `repeats` forwards, (N,), as a share of their spread.

    Args:
        model: The model to look at.
        images: Float32 (N, C, H, W) in [0, 1].
        repeats: Forwards of the same images.
    """
    runs = torch.stack([model.logits(images) for _ in range(repeats)])
    return _strayed(runs.amax(0) - runs.amin(0), runs[0])


def batch_difference(model: ModelUnderTest, images: Images) -> Tensor:
    """How far the logits move when the image is alone, f(x)[i] against f(x[i]), (N,), as a share of their spread; 1
    where the model fails on an image alone. A single image gets its negative and its half for company.

    Args:
        model: The model to look at.
        images: Float32 (N, C, H, W) in [0, 1].
    """
    batched = model.logits(images) if len(images) > 1 else model.logits(torch.cat([images, 1 - images, images / 2]))[:1]
    try:
        singly = torch.cat([model.logits(images[i : i + 1]) for i in range(len(images))])
    except ModelError:
        return torch.ones_like(precise(batched[:, 0]))  # None is answered alone.
    return _strayed(batched - singly, batched)


def not_finite(model: ModelUnderTest, images: Images) -> Tensor:
    """Whether some logit is NaN or infinite, bool (N,).

    Args:
        model: The model to look at.
        images: Float32 (N, C, H, W) in [0, 1].
    """
    return ~model.logits(images).isfinite().all(1)


def needs_autograd(model: ModelUnderTest, images: Images) -> bool:
    """Whether the forward pass itself takes gradients (as purifying defences do): it then fails in inference mode.

    Args:
        model: The model to look at.
        images: Float32 (N, C, H, W) in [0, 1].
    """
    images = model.check_images(images)
    try:
        with torch.inference_mode():
            model.module(images)
    except RuntimeError:
        return True
    except ValueError:  # It fails on so few images, which is another doubt.
        return False
    return False


def modules_in_training(model: ModelUnderTest) -> list[str]:
    """Modules that put themselves back into training mode.

    Args:
        model: The model to look at.
    """
    return [name or type(layer).__name__ for name, layer in model.net.named_modules() if layer.training]


def state_copy(model: ModelUnderTest) -> dict[str, Tensor]:
    """Parameters and buffers as they are now.

    Args:
        model: The model to look at.
    """
    state = model.net.state_dict()
    return {name: tensor.detach().clone() for name, tensor in state.items() if isinstance(tensor, Tensor)}


def changed_state(model: ModelUnderTest, before: dict[str, Tensor]) -> list[str]:
    """Parameters and buffers that differ from `before`: a forward pass in eval mode changes none.

    Args:
        model: The model to look at.
        before: What `state_copy` gave.
    """
    after = {name: value for name, value in model.net.state_dict().items() if isinstance(value, Tensor)}
    return sorted(
        name
        for name in before.keys() | after.keys()
        if name not in before or name not in after or not torch.equal(before[name], after[name])
    )


def _strayed(difference: Tensor, logits: Logits) -> Tensor:
    """Where logits are not finite there is nothing to compare: 0, and `not_finite` tells."""
    spread = (logits.amax(1) - logits.amin(1)).nanmedian().clamp(min=1e-12)
    return (precise(difference.abs().amax(1)) / precise(spread)).nan_to_num(nan=0.0)
