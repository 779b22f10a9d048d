"""torchvision's `transform_input` of Inception and GoogLeNet, which a file of weights does not carry."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from audit.core.note import Note, note

_PUBLISHED_CLASSES = 1000


def input_notes(module: nn.Module, state: Mapping[str, Tensor], classes: int, checkpoint: str) -> tuple[Note, ...]:
    """Turn `transform_input` on for published weights, as torchvision does, and say so; for others say that it is off.

    With it the net takes images normalised by ImageNet's mean and standard deviation and brings them to [-1, 1]
    itself. Published weights are known by their thousand classes.

    Args:
        module: The net with its weights, changed in place.
        state: The file's tensors.
        classes: The number of classes.
        checkpoint: The file's name.

    Returns:
        Notes; none for a net without such a switch.
    """
    if not hasattr(module, "transform_input") or not type(module).__module__.startswith("torchvision."):
        return ()
    colour = any(tensor.ndim == 4 and tensor.shape[1] == 3 for tensor in state.values())
    if module.transform_input or not colour:
        return ()
    if classes == _PUBLISHED_CLASSES:
        module.transform_input = True  # type: ignore[assignment]
        return (
            note(
                "model_transform_input",
                "{name} has ImageNet's thousand classes: transform_input is on, as torchvision turns it on for its "
                "published weights. Give ImageNet's --mean and --std.",
                name=checkpoint,
            ),
        )
    return (
        note(
            "model_no_transform_input",
            "{name}: transform_input is off, as torchvision leaves it for weights that are not its own. Weights "
            "fine-tuned from its published ones expect images in [-1, 1]: --mean 0.5 --std 0.5.",
            name=checkpoint,
        ),
    )
