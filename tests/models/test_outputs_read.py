"""What a model returns is read for what it is, or refused with what was found."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import audit
from audit.core.errors import ModelError
from audit.core.threat import ThreatModel
from audit.models.outputs import to_logits

SHAPE = (1, 8, 8)
IMAGES = torch.rand(12, *SHAPE, generator=torch.Generator().manual_seed(1))
Heads = namedtuple("Heads", "features logits aux")


class Net(nn.Module):
    """A linear net whose scores are put in another form, perhaps in training alone."""

    def __init__(self, outputs: int, form: Callable[[Tensor], Any], *, training_only: bool = False) -> None:
        super().__init__()
        self.layer, self.form, self.training_only = nn.Linear(64, outputs), form, training_only
        generator = torch.Generator().manual_seed(outputs)
        with torch.no_grad():
            self.layer.weight.copy_(torch.randn(outputs, 64, generator=generator) / 4)
            self.layer.bias.zero_()

    def forward(self, images: Tensor) -> Any:
        scores = self.scores(images)
        return scores if self.training_only and not self.training else self.form(scores)

    def scores(self, images: Tensor) -> Tensor:
        return self.layer(images.flatten(1) - 0.5)


STRUCTURES: dict[str, Callable[[Tensor], Any]] = {
    "a dictionary": lambda z: {"logits": z},
    "a dictionary with an auxiliary head": lambda z: {"aux": z * 3, "out": z},
    "an object": lambda z: SimpleNamespace(loss=None, logits=z, hidden_states=(z * 2, z * 3)),
    "a tuple of one": lambda z: (z,),
    "an embedding first": lambda z: (torch.cat([z, z], 1), z),
    "a named tuple": lambda z: Heads(z.repeat(1, 2), z, z * 2),
    "probabilities beside the logits": lambda z: (z.softmax(1), z),
    "a nested list": lambda z: [[z], None, "text"],
    "a map of one place": lambda z: z[..., None, None],
    "an axis of one": lambda z: z[:, None],
    "no batch axis for one image": lambda z: z.squeeze(),
    "another type": lambda z: z.double(),
}


@pytest.mark.parametrize("form", STRUCTURES)
def test_scores_are_found_in(form: str) -> None:
    net = Net(3, STRUCTURES[form])
    model = audit.wrap(net, classes=3, input_shape=SHAPE)
    assert torch.allclose(model.logits(IMAGES), net.scores(IMAGES), atol=1e-6)
    assert torch.allclose(model.logits(IMAGES[:1]), net.scores(IMAGES[:1]), atol=1e-6)
    assert [note.key for note in model.notes] == (["model_output_entry"] if model.reader.entry else [])


MEANINGS: dict[str, tuple[int, Callable[[Tensor], Tensor], str]] = {
    "one output without an axis": (1, lambda z: z[:, 0], "one logit"),
    "one logit within the unit": (1, lambda z: 0.3 + z * 1e-3, "one logit"),
    "one sigmoid": (1, torch.sigmoid, "one probability"),
    "one sigmoid without an axis": (1, lambda z: z.squeeze().sigmoid(), "one probability"),
    "one sigmoid written out": (1, lambda z: 1 / (1 + torch.exp(-z)), "one probability"),
    "one tanh": (1, torch.tanh, "one logit"),
    "softmax": (3, lambda z: z.softmax(1), "probabilities"),
    "softmax in half precision": (3, lambda z: z.softmax(1).half(), "probabilities"),
    "two complementary": (1, lambda z: torch.cat([1 - z.sigmoid(), z.sigmoid()], 1), "probabilities"),
    "log-softmax": (3, lambda z: z.log_softmax(1), "logits"),
    "sigmoids": (3, torch.sigmoid, "sigmoid"),
    "two sigmoids": (2, torch.sigmoid, "sigmoid"),
    "clamped sigmoids": (3, lambda z: z.sigmoid().clamp(1e-4, 1 - 1e-4), "sigmoid"),
    "logits within the unit": (3, lambda z: 0.5 + z * 1e-3, "logits"),
}


@pytest.mark.parametrize("case", MEANINGS)
def test_the_last_operation_says_what_scores_mean(case: str) -> None:
    outputs, form, kind = MEANINGS[case]
    net = Net(outputs, form)
    model = audit.wrap(net, classes=max(2, outputs), input_shape=SHAPE)
    assert model.output_kind == kind
    raw = net(IMAGES)
    threshold = 0.5 if kind == "one probability" else 0.0
    expected = raw.reshape(12, -1).argmax(1) if raw.numel() > 12 else (raw.flatten() > threshold).long()
    assert torch.equal(model.predictions(IMAGES), expected)


def test_percentages_of_a_softmax_are_probabilities() -> None:
    net = Net(3, lambda z: 100 * z.softmax(1))
    model = audit.wrap(net, classes=3, input_shape=SHAPE)
    assert model.output_kind == "probabilities"
    assert torch.allclose(model.logits(IMAGES).softmax(1), net(IMAGES) / 100, atol=1e-5)
    logits = audit.wrap(Net(3, lambda z: 100 + z - z.mean(1, keepdim=True)), classes=3, input_shape=SHAPE)
    assert logits.output_kind == "logits"


def test_sigmoid_scores_are_inverted_and_the_doubt_of_hidden_ones_is_said() -> None:
    scores = torch.tensor([[0.1, 0.9, 0.5]])
    assert torch.allclose(to_logits(scores, "sigmoid").sigmoid(), scores)
    assert [note.key for note in audit.wrap(Net(3, torch.sigmoid), classes=3, input_shape=SHAPE).notes] == [
        "model_sigmoid"
    ]
    hidden = audit.wrap(Net(3, lambda z: z.sigmoid().detach()), classes=3, input_shape=SHAPE)
    assert "model_outputs_guessed" in {note.key for note in hidden.notes}


def test_a_guess_that_the_data_contradict_is_an_error() -> None:
    net = Net(
        3,
        lambda z: (
            torch.where(z.amax(1, True) > 9, 2 * z, z.sigmoid()).detach() if len(z) != 4 else z.sigmoid().detach()
        ),
    )
    model = audit.wrap(net, classes=3, input_shape=SHAPE)
    with pytest.raises(ModelError, match="--outputs logits"):
        model.logits(torch.ones(2, *SHAPE) * 1e4)


REFUSED: dict[str, tuple[int, Callable[[Tensor], Any], str]] = {
    "a map of places": (3, lambda z: z[..., None, None].expand(-1, -1, 2, 2), "scores for each place"),
    "two that may be": (3, lambda z: (z, z * z), r"0 \(4, 3\), 1 \(4, 3\).*--output-entry 0"),
    "none that fits": (3, lambda z: {"features": torch.cat([z, z], 1)}, r"features \(4, 6\)"),
    "an array": (3, lambda z: z.detach().numpy(), "ndarray"),
    "nothing": (3, lambda z: None, "NoneType"),
    "a class": (3, lambda z: z.argmax(1), "decision"),
    "decisions": (2, lambda z: z > 0, "decisions"),
    "softmax over the batch": (3, lambda z: z.softmax(0), "dim=0"),
    "softmax of one": (1, lambda z: z.softmax(1), "single output"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_read_is_refused_with_what_was_found(case: str) -> None:
    outputs, form, sentence = REFUSED[case]
    with pytest.raises(ModelError, match=sentence):
        audit.wrap(Net(outputs, form), classes=max(2, outputs), input_shape=SHAPE)


def test_the_user_chooses_the_entry_and_its_meaning() -> None:
    net = Net(3, lambda z: (z, z.flip(1) * 2))
    model = audit.wrap(net, classes=3, input_shape=SHAPE, output_entry="1")
    assert torch.allclose(model.logits(IMAGES), net.scores(IMAGES).flip(1) * 2, atol=1e-6)
    two = Net(2, torch.sigmoid)
    kinds = [audit.wrap(two, classes=2, input_shape=SHAPE, outputs=kind).output_kind for kind in ("logits", "sigmoid")]
    assert kinds == ["logits", "sigmoid"]
    with pytest.raises(ModelError, match="cannot be"):
        audit.wrap(Net(3, lambda z: z), classes=3, input_shape=SHAPE, outputs="sigmoid")
    with pytest.raises(audit.core.errors.UsageError, match="nonsense"):
        audit.wrap(two, classes=2, input_shape=SHAPE, outputs="nonsense")  # type: ignore[arg-type]


@pytest.mark.parametrize("form", ["a tuple of one", "a named tuple", "a dictionary with an auxiliary head"])
@pytest.mark.parametrize("training_only", [True, False])
def test_hardening_reads_the_same_scores_in_training(form: str, training_only: bool) -> None:
    net = Net(3, STRUCTURES[form], training_only=training_only)
    model = audit.wrap(net, classes=3, input_shape=SHAPE)
    images = torch.rand(40, *SHAPE, generator=torch.Generator().manual_seed(2))
    labels = net.scores(images).argmax(1)
    hardened = audit.harden(model, images, labels, ThreatModel("linf", 0.01), epochs=1, batch_size=16, recipe="fgsm-rs")
    assert hardened.model.output_kind == "logits"
    assert float((hardened.model.predictions(images) == labels).float().mean()) > 0.8


def test_a_choice_follows_the_model_into_hardening() -> None:
    model = audit.wrap(Net(3, lambda z: (z * 2, z)), classes=3, input_shape=SHAPE, output_entry="1")
    images = torch.rand(40, *SHAPE, generator=torch.Generator().manual_seed(2))
    labels = model.predictions(images)
    hardened = audit.harden(model, images, labels, ThreatModel("linf", 0.01), epochs=1, batch_size=16, recipe="fgsm-rs")
    assert hardened.model.reader.entry == "1"


def test_attacks_see_through_sigmoid_scores() -> None:
    """The same weights with and without the final sigmoid are equally robust."""
    plain, squashed = Net(3, lambda z: z), Net(3, torch.sigmoid)
    labels = plain.scores(IMAGES).argmax(1)
    threat = ThreatModel("linf", 0.05)
    robust = [
        audit.robustness(audit.wrap(net, classes=3, input_shape=SHAPE), IMAGES, labels, threat).robust.tolist()
        for net in (plain, squashed)
    ]
    assert robust[0] == robust[1]
