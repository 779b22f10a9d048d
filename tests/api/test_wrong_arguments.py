"""Arguments of the wrong kind or shape get a sentence that names them, whatever public function takes them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import audit
from audit.adversarial.targets import check_examples
from audit.core.errors import AuditError
from audit.core.types import Batch

NET = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
IMAGES, LABELS = torch.rand(4, 1, 8, 8), torch.tensor([0, 1, 2, 0])
THREAT = audit.ThreatModel("linf", 0.1)
THINGS: list[Any] = [None, 3, "x", [], {}, NET, object(), float("nan"), [None], b"x", THREAT]
WRONG_IMAGES: list[Any] = [
    IMAGES[0],
    IMAGES[None],
    torch.rand(4, 1, 9, 8),
    (IMAGES * 255).byte(),
    IMAGES * float("nan"),
    IMAGES * 255,
    IMAGES[:0],
    IMAGES.to(torch.complex64),
    IMAGES.to_sparse(),
    torch.empty(4, 1, 8, 8, device="meta"),
    np.array(["a"]),
    np.array([None]),
]
WRONG_LABELS: list[Any] = [LABELS + 0.5, LABELS[None], LABELS[:2], LABELS + 5, LABELS - 1, ["a"] * 4, torch.eye(3)]
WRONG_EPS: list[Any] = [[], [0.1, -1], ["a"], [float("nan")], [2.0], 0.1, [None], "8/255"]
WRONG_SHAPES: list[Any] = [(1, 8), (1, 8, 8, 8), (0, 8, 8), (1, -8, 8), ("a", 8, 8), (1, 9, 8), (1.0, 8, 8)]


@pytest.fixture(scope="module")
def model() -> audit.ModelUnderTest:
    return audit.wrap(NET, classes=3, input_shape=(1, 8, 8), device="cpu")


def refuse(call: Callable[[], object]) -> None:
    with pytest.raises(AuditError) as refused:
        call()
    assert str(refused.value).rstrip().endswith((".", "?")), refused.value


@pytest.mark.parametrize("thing", THINGS, ids=lambda thing: repr(thing).split(" at 0x")[0])
def test_things_of_another_kind_are_refused_by_name(thing: Any, model: audit.ModelUnderTest) -> None:
    for other in (
        lambda: audit.robustness(thing, IMAGES, LABELS, THREAT, attacks=["fgsm"]),
        lambda: audit.robustness(model, thing, LABELS, THREAT, attacks=["fgsm"]),
        lambda: audit.robustness(model, IMAGES, thing, THREAT, attacks=["fgsm"]),
        lambda: audit.attack(thing, IMAGES, LABELS, THREAT, method="fgsm"),
        lambda: audit.attack(model, thing, LABELS, THREAT, method="fgsm"),
        lambda: audit.attack(model, IMAGES, thing, THREAT, method="fgsm"),
        lambda: audit.attack(model, IMAGES, LABELS, THREAT, method=thing),
        lambda: audit.corrupt(thing, IMAGES),
        lambda: audit.corrupt(model, thing),
        lambda: audit.corrupt(model, IMAGES, method=thing),
        lambda: audit.evaluate_attributions(thing, IMAGES, IMAGES),
        lambda: audit.evaluate_attributions(model, thing, IMAGES),
        lambda: audit.evaluate_attributions(model, IMAGES, thing),
        lambda: audit.explain(thing, IMAGES, method="saliency"),
        lambda: audit.explain(model, thing, method="saliency"),
        lambda: audit.explain(model, IMAGES, method=thing),
        lambda: audit.harden(thing, IMAGES, LABELS, THREAT),
        lambda: audit.train(thing, LABELS, classes=3),
        lambda: audit.ThreatModel(thing, 0.1),
    ):
        refuse(other)
    if thing is not NET:
        refuse(lambda: audit.wrap(thing, classes=3, input_shape=(1, 8, 8)))
    if thing is not THREAT:
        refuse(lambda: audit.robustness(model, IMAGES, LABELS, thing, attacks=["fgsm"]))
    if thing != 3:
        refuse(lambda: audit.wrap(NET, classes=thing, input_shape=(1, 8, 8), device="cpu"))
        refuse(lambda: audit.wrap(NET, classes=3, input_shape=thing, device="cpu"))
    if thing is not None:
        refuse(lambda: audit.robustness(model, IMAGES, LABELS, THREAT, attacks=thing))


@pytest.mark.parametrize("images", WRONG_IMAGES, ids=range(len(WRONG_IMAGES)))
def test_images_that_are_none_are_refused(images: Any, model: audit.ModelUnderTest) -> None:
    refuse(lambda: audit.robustness(model, images, LABELS, THREAT, attacks=["fgsm"]))
    refuse(lambda: audit.explain(model, images, method="saliency"))


@pytest.mark.parametrize("labels", WRONG_LABELS, ids=range(len(WRONG_LABELS)))
def test_labels_that_are_none_are_refused(labels: Any, model: audit.ModelUnderTest) -> None:
    refuse(lambda: audit.robustness(model, IMAGES, labels, THREAT, attacks=["fgsm"]))


@pytest.mark.parametrize("eps", WRONG_EPS, ids=repr)
def test_eps_that_are_none_are_refused(eps: Any, model: audit.ModelUnderTest) -> None:
    refuse(lambda: audit.robustness_curve(model, IMAGES, LABELS, "linf", eps, attacks=["fgsm"]))


@pytest.mark.parametrize("shape", WRONG_SHAPES, ids=repr)
def test_shapes_that_are_none_are_refused(shape: Any) -> None:
    refuse(lambda: audit.wrap(NET, classes=3, input_shape=shape, device="cpu"))


def test_a_misspelt_argument_is_named() -> None:
    with pytest.raises(AuditError, match=r"audit\.wrap has no argument 'colour'"):
        audit.wrap(NET, classes=3, input_shape=(1, 8, 8), colour=True)  # type: ignore[call-arg]


def test_lists_are_images_and_labels_too(model: audit.ModelUnderTest) -> None:
    few = audit.robustness(model, IMAGES.tolist(), LABELS.tolist(), THREAT, attacks=["fgsm"])
    assert few.robust.shape == (4,)
    assert audit.explain(model, IMAGES.tolist(), method="saliency").attributions is not None


@pytest.mark.parametrize("classes", [np.array(["a", "b", "c"]), np.int64(3), torch.tensor(3), LABELS.max() + 1])
def test_classes_may_come_from_numpy_and_torch(classes: Any) -> None:
    model = audit.wrap(NET, classes=classes, input_shape=(1, 8, 8))
    assert model.classes in [("a", "b", "c"), ("0", "1", "2")] and {type(name) for name in model.classes} == {str}


@pytest.mark.parametrize(
    ("images", "eps", "said"),
    [
        (IMAGES * float("nan"), 0.1, "not finite"),
        (IMAGES / 0, 0.1, "not finite"),
        (IMAGES * 255, 0.1, "Scale them"),
        (IMAGES, 8, "write 8/255, not 8"),
        (IMAGES, -0.1, "outside [0, 1] for linf."),
    ],
)
def test_the_remedy_follows_from_what_is_wrong(
    model: audit.ModelUnderTest, images: torch.Tensor, eps: float, said: str
) -> None:
    with pytest.raises(AuditError) as fault:
        audit.robustness(model, images, LABELS, audit.ThreatModel("linf", eps))
    assert str(fault.value).count(said) == 1 and ("Scale" in str(fault.value)) == (said == "Scale them")


def test_the_shape_in_the_sentence_is_that_of_the_images(model: audit.ModelUnderTest) -> None:
    for images in (torch.rand(100, 8, 8), torch.rand(100, 3, 8, 8)):
        for call in (audit.robustness, audit.attack):
            with pytest.raises(AuditError) as refused:
                call(model, images, torch.zeros(100, dtype=torch.long), THREAT)
            assert f"Images of shape {tuple(images.shape)} were given" in str(refused.value)
    batch = Batch(torch.rand(100, 3, 8, 8), torch.zeros(100, dtype=torch.long), tuple(map(str, range(100))))
    with pytest.raises(AuditError, match=r"^Images of shape \(100, 3, 8, 8\) were given"):
        check_examples(model, batch)
