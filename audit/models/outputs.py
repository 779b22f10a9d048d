"""What the outputs of a model mean, told from its last operation and its values: one reader for audit and training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from audit.core.errors import ModelError
from audit.core.note import Note, note
from audit.core.types import Images, Logits
from audit.models.last_operation import LINEAR, in_unit, last_operation, stays_in_unit
from audit.models.output_entries import as_rows, scores_in, tensors_in

OutputKind = Literal["logits", "probabilities", "sigmoid", "one logit", "one probability"]
OutputMeaning = Literal["auto", "logits", "probabilities", "sigmoid"]

NOTES: dict[OutputKind, Note] = {
    "probabilities": note(
        "model_softmax",
        "The model gives probabilities, as after a softmax: their logarithms are used, and gradients may vanish where "
        "it is confident.",
    ),
    "sigmoid": note(
        "model_sigmoid",
        "The model gives each class a sigmoid score of its own: the scores are no distribution over the classes, as "
        "they need not sum to 1. Score p is read as the logit log(p / (1 - p)), and no calibration error is reported.",
    ),
    "one logit": note(
        "model_one_logit", "The model has one output for two classes: logit z is read as the logits (0, z)."
    ),
    "one probability": note(
        "model_one_probability",
        "The model has one sigmoid output for two classes: probability p is read as the logits (log(1 - p), log p).",
    ),
}

_SMALLEST = 1e-30
_TOLERANCE = {torch.float16: 1e-2, torch.bfloat16: 3e-2}
"""How far from 1 the probabilities of an image may sum, by type; 1e-4 for others."""
_CHOICE = "_audit_outputs"
"""The attribute of a module that carries what the user says of its outputs."""


@dataclass(frozen=True)
class OutputChoice:
    """What a user says of a model's outputs.

    Attributes:
        meaning: What they mean; auto tells it from the model.
        entry: The name of the scores where the model returns several tensors; "" finds them.
    """

    meaning: OutputMeaning = "auto"
    entry: str = ""


@dataclass(frozen=True)
class OutputReader:
    """Reads logits from what a model returns.

    Attributes:
        classes: The number of classes.
        kind: What the scores mean.
        entry: The name of the scores among several tensors; "" for a bare tensor.
        entries: The names and shapes of all tensors, for the reader of a report; "" for a bare tensor.
        guessed: Whether the meaning was told from values alone, which every call then checks.
    """

    classes: int
    kind: OutputKind = "logits"
    entry: str = ""
    entries: str = ""
    guessed: bool = False

    def __call__(self, outputs: Any, images: int) -> Logits:
        """Logits from what the model returned.

        A model that returns more in training than in evaluation is read by the names of its scores, else by the first
        tensor that fits.

        Args:
            outputs: What the model returned.
            images: The number of images, N.

        Returns:
            Float32 (N, classes).

        Raises:
            ModelError: There are no scores in it, or they lie outside [0, 1] where they were taken for probabilities.
        """
        scores = as_rows(outputs, images, self.classes) if isinstance(outputs, Tensor) else None
        if scores is None:
            known = self.entry if self.entry in tensors_in(outputs) else ""
            scores = scores_in(outputs, images, self.classes, entry=known, first=True)[1]
        if self.guessed and not bool(in_unit(scores)):
            raise ModelError(
                "The model's outputs were taken for probabilities, as they lie in [0, 1] on images of noise, and lie "
                "outside on some of these images. Say what they mean with --outputs logits (outputs of audit.wrap)."
            )
        return to_logits(scores, self.kind)

    @property
    def notes(self) -> tuple[Note, ...]:
        """What a reader should know about how the outputs are read; empty when nothing was done to them."""
        notes = [NOTES[self.kind]] if self.kind in NOTES else []
        if self.entries:
            notes.append(
                note(
                    "model_output_entry",
                    "The model returns several values ({entries}); its scores were read from {entry}.",
                    entries=self.entries,
                    entry=self.entry,
                )
            )
        if self.guessed:
            notes.append(
                note(
                    "model_outputs_guessed",
                    "No final sigmoid was found in the model, but its outputs stay in [0, 1] however extreme the "
                    "image: they are read as sigmoid scores. Where they are logits, say so with --outputs logits.",
                )
            )
        return tuple(notes)


def learn_outputs(run: Callable[[Images], Any], images: Images, classes: int, choice: OutputChoice) -> OutputReader:
    """Learn how to read a model's outputs from a few of them.

    Outputs outside [0, 1] are logits. Inside, the model's last operation decides, and where the graph does not show
    it, whether each image's sum to 1 and whether they stay inside on images far outside the usual range.

    Args:
        run: Gives what the model returns of images.
        images: A few images, float32 (N, C, H, W).
        classes: The number of classes.
        choice: What the user says of the outputs.

    Raises:
        ModelError: Nothing in the outputs fits the number of classes, several tensors do, an output is not finite, or
            what the user says cannot be.
    """
    with torch.no_grad():
        outputs = run(images)
    entry, scores = scores_in(outputs, len(images), classes, entry=choice.entry)
    if not scores.is_floating_point():
        raise ModelError(
            f"The model returns {str(scores.dtype).removeprefix('torch.')} values, decisions in place of scores, where "
            "floats were expected: one score for each class. Return what the decision is taken from."
        )
    if not torch.isfinite(scores).all():
        raise ModelError(
            "The model's outputs are not finite (NaN or infinity) on images in [0, 1]. Check its weights and the "
            "normalisation given by --mean and --std."
        )
    listed = ", ".join(f"{name} {tuple(value.shape)}" for name, value in tensors_in(outputs).items()) if entry else ""
    meaning, guessed = (choice.meaning, False)
    if meaning == "auto":
        meaning, guessed = _meaning(run, images, scores, classes, entry)
    elif meaning != "logits" and not bool(in_unit(scores)):
        raise ModelError(
            f"The model's outputs lie in [{float(scores.min()):.3g}, {float(scores.max()):.3g}] and cannot be "
            f"{meaning} outputs, which lie in [0, 1]. Leave --outputs out, or say logits."
        )
    return OutputReader(classes, _kind(meaning, scores.shape[1]), entry, listed, guessed)


def to_logits(outputs: Tensor, kind: OutputKind) -> Tensor:
    """Logits from scores.

    Args:
        outputs: (N, K), K being 1 where there is one output for two classes.
        kind: What they mean.

    Returns:
        Float32 (N, classes).
    """
    outputs = outputs.float()
    if kind == "probabilities":
        return outputs.clamp(min=_SMALLEST).log()
    if kind == "sigmoid":
        return outputs.clamp(min=_SMALLEST).log() - (1 - outputs).clamp(min=_SMALLEST).log()
    if kind == "one logit":
        return torch.cat([torch.zeros_like(outputs), outputs], dim=1)
    if kind == "one probability":
        return torch.cat([1 - outputs, outputs], dim=1).clamp(min=_SMALLEST).log()
    return outputs


def confidences(logits: Logits, kind: OutputKind) -> Tensor:
    """How sure a model is of each class, in [0, 1].

    Args:
        logits: (N, classes).
        kind: What the model's outputs mean.

    Returns:
        The softmax, or where each class has a score of its own, that score; (N, classes).
    """
    return logits.sigmoid() if kind == "sigmoid" else logits.softmax(1)


def choose_outputs(module: nn.Module, choice: OutputChoice) -> None:
    """Let a module, and its copies, carry what the user says of its outputs.

    Args:
        module: The module.
        choice: What the user says.
    """
    if choice != OutputChoice():
        object.__setattr__(module, _CHOICE, choice)


def chosen_outputs(module: nn.Module) -> OutputChoice:
    """What the user says of a module's outputs.

    Args:
        module: The module.
    """
    choice = vars(module).get(_CHOICE)
    return choice if isinstance(choice, OutputChoice) else OutputChoice()


def _kind(meaning: OutputMeaning, columns: int) -> OutputKind:
    if columns == 1:
        return "one logit" if meaning == "logits" else "one probability"
    return "logits" if meaning == "auto" else meaning


def _meaning(
    run: Callable[[Images], Any], images: Images, scores: Tensor, classes: int, entry: str
) -> tuple[OutputMeaning, bool]:
    """What scores mean, and whether that was told from values alone."""
    sums = scores.float().sum(1)
    if not bool(in_unit(scores)):
        return ("probabilities" if _is_scaled_softmax(run, images, scores, classes, entry) else "logits"), False
    if scores.shape[1] > 1 and bool(((sums - 1).abs() < _TOLERANCE.get(scores.dtype, 1e-4)).all()):
        return "probabilities", False
    last = last_operation(run, images, classes, entry)
    if last == "softmax":
        _require_rows(scores)
        return "probabilities", False
    if last == "sigmoid":
        return "sigmoid", False
    if last in LINEAR or not stays_in_unit(run, images, classes, entry):
        return "logits", False
    return "sigmoid", True


def _is_scaled_softmax(run: Callable[[Images], Any], images: Images, scores: Tensor, classes: int, entry: str) -> bool:
    """Whether scores are probabilities times a number, such as percentages, whose logarithms are logits too."""
    sums = scores.float().sum(1)
    alike = bool((scores >= 0).all()) and bool(((sums / sums.mean() - 1).abs() < 1e-4).all())
    return alike and last_operation(run, images, classes, entry) == "softmax"


def _require_rows(scores: Tensor) -> None:
    """Softmax over the classes of one image."""
    if scores.shape[1] == 1:
        raise ModelError(
            "The model's single output goes through softmax, which makes it 1 on every image. Give it a sigmoid, or "
            "two outputs."
        )
    if bool(((scores.float().sum(0) - 1).abs() < 1e-3).all()):
        raise ModelError(
            "The model's softmax runs over the images of a batch (dim=0), so that its outputs depend on which images "
            "are asked together. Let it run over the classes, dim=1."
        )
