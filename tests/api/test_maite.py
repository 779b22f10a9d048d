"""MAITE's models, data sets and augmentations in, and a model of ours out, held to MAITE's own protocols and tasks."""

from __future__ import annotations

import random
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import audit
from audit.core.errors import AuditError, DataError, ModelError, UsageError
from audit.data.load import load_dataset
from tests.conftest import small_cnn

maite = pytest.importorskip("maite")
protocols = pytest.importorskip("maite.protocols.image_classification")

NAMES = {0: "cat", 1: "dog", 2: "emu", 3: "fox"}


class Pictures:
    """A data set as MAITE's documentation writes one."""

    def __init__(self, images: Sequence[Any], targets: Sequence[Any], **metadata: Any) -> None:
        self.images, self.targets = images, targets
        self.metadata = {"id": "pictures"} | metadata

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int, /) -> tuple[Any, Any, dict[str, Any]]:
        return self.images[index], self.targets[index], {"id": f"p{index}"}


class ArrayModel:
    """A model that works on arrays, outside torch."""

    def __init__(self) -> None:
        self.metadata: dict[str, Any] = {"id": "by numpy", "index2label": NAMES}
        self.weight = np.random.default_rng(0).normal(size=(144, 4)).astype(np.float32)

    def __call__(self, batch: Sequence[Any], /) -> Sequence[Any]:
        return [np.asarray(image, np.float32).reshape(-1) @ self.weight for image in batch]


class TensorModel(ArrayModel):
    """The same, which takes tensors too and follows gradients."""

    def __call__(self, batch: Sequence[Any], /) -> Sequence[Any]:
        return [torch.as_tensor(image).flatten() @ torch.from_numpy(self.weight) for image in batch]


class Darker:
    """An augmentation that draws, from NumPy's global generator."""

    def __init__(self, least: float = 0.5) -> None:
        self.metadata = {"id": "darker"}
        self.least = least

    def __call__(self, batch: Any, /) -> Any:
        images, targets, metadata = batch
        assert all(image.dtype == np.uint8 and sum(target) == 1 for image, target in zip(images, targets, strict=True))
        return [(image * np.random.uniform(self.least, 1)).astype(np.uint8) for image in images], targets, metadata


@pytest.fixture(scope="module")
def pictures() -> np.ndarray[Any, Any]:
    return np.random.default_rng(1).integers(0, 256, (10, 1, 12, 12)).astype(np.uint8)


@pytest.fixture(scope="module")
def model() -> audit.ModelUnderTest:
    return audit.wrap(small_cnn(), classes=list(NAMES.values()), input_shape=(1, 12, 12), device="cpu")


def one_hot(labels: Sequence[int]) -> np.ndarray[Any, Any]:
    return np.eye(4)[list(labels)]


def test_a_data_set_is_read_as_it_is(pictures: np.ndarray[Any, Any], tmp_path: Path) -> None:
    labels = [number % 4 for number in range(10)]
    dataset = Pictures(pictures, one_hot(labels), index2label=NAMES)
    assert isinstance(dataset, protocols.Dataset)
    data = audit.from_maite(dataset)
    assert torch.equal(data.images, torch.from_numpy(pictures).float() / 255) and data.labels.tolist() == labels
    assert data.classes == ("cat", "dog", "emu", "fox") and data.ids[3] == "p3" and data.name == "pictures"
    data.save(tmp_path / "pictures.npz")
    again = load_dataset(f"npz:{tmp_path / 'pictures.npz'}").test
    batch = again.batch(slice(0, 10))
    assert torch.equal(batch.images, data.images) and batch.labels.tolist() == labels
    assert len(audit.from_maite(dataset, limit=4).images) == 4


def test_floats_stay_floats(pictures: np.ndarray[Any, Any], tmp_path: Path) -> None:
    floats = torch.rand(5, 1, 12, 12, generator=torch.Generator().manual_seed(1))
    data = audit.from_maite(Pictures(list(floats), [torch.eye(4)[1]] * 5))
    assert torch.equal(data.images, floats) and data.classes == ("0", "1", "2", "3")
    data.save(tmp_path / "floats.npz")
    read = load_dataset(f"npz:{tmp_path / 'floats.npz'}").test.batch(slice(0, 5))
    assert torch.allclose(read.images, floats)


@pytest.mark.parametrize(
    ("images", "targets", "metadata", "words"),
    [
        ("bytes", [[0.2, 0.8, 0, 0]], {}, r"Target 0 of the MAITE data set 'pictures' is not one-hot: \[0\.2"),
        ("bytes", [[1, 1, 0, 0]], {}, "not one-hot"),
        ("bytes", [[0, 0, 0, 0]], {}, "not one-hot"),
        ("bytes", [3], {}, "not one-hot: 3"),
        ("bytes", [[1, 0, 0]], {"index2label": NAMES}, "where 4 values"),
        ("bytes", [[1, 0, 0, 0], [1, 0, 0]], {}, "Target 1 .* where 4 values"),
        ("bytes", [[1, 0, 0, 0]], {"index2label": {1: "a", 2: "b"}}, r"names the classes \[1, 2\]"),
        ("wide", [[1, 0, 0, 0]], {}, "pixels from .* where bytes, or floats in"),
        ("flat", [[1, 0, 0, 0]], {}, r"where bytes or floats \(C, H, W\)"),
        ("mixed", [[1, 0, 0, 0], [1, 0, 0, 0]], {}, "bring them to one size"),
        ("none", [], {}, "holds no image"),
    ],
    ids=range(11),
)
def test_a_data_set_that_cannot_be_used_gets_a_sentence(
    images: str, targets: list[Any], metadata: dict[str, Any], words: str, pictures: np.ndarray[Any, Any]
) -> None:
    given: dict[str, list[Any]] = {
        "bytes": list(pictures),
        "wide": [pictures[0].astype(np.float32)],
        "flat": [pictures[0, 0]],
        "mixed": [pictures[0], pictures[1, :, :6]],
        "none": [],
    }
    with pytest.raises((DataError, UsageError), match=words) as refused:
        audit.from_maite(Pictures(given[images][: len(targets)], targets, **metadata))
    assert str(refused.value).endswith(".")


def test_what_is_no_data_set_of_maites_is_named() -> None:
    with pytest.raises(UsageError, match="of type list, where one of MAITE's"):
        audit.from_maite([1, 2])


def test_a_model_of_arrays_is_audited_by_its_scores_alone(pictures: np.ndarray[Any, Any]) -> None:
    theirs = ArrayModel()
    assert isinstance(theirs, protocols.Model)
    model = audit.wrap(theirs, input_shape=(1, 12, 12), device="cpu")
    assert model.classes == ("cat", "dog", "emu", "fox")
    images = torch.from_numpy(pictures).float() / 255
    expected = np.stack(theirs(list(images.numpy())))
    assert np.allclose(model.logits(images).numpy(), expected, atol=1e-4)
    labels, threat = model.predictions(images), audit.ThreatModel("linf", 0.2)
    attacked = audit.attack(model, images, labels, threat, method="square", queries=60)
    assert torch.equal(attacked.broken, model.predictions(attacked.images) != labels) and attacked.broken.any()
    assert audit.explain(model, images[:2], method="saliency").status == "not_applicable"
    assert audit.explain(model, images[:2], method="occlusion").status == "measured"


def test_a_model_of_tensors_has_its_gradients(pictures: np.ndarray[Any, Any]) -> None:
    theirs = TensorModel()
    model = audit.wrap(theirs, classes=4, input_shape=(1, 12, 12), device="cpu")
    images = torch.from_numpy(pictures).float() / 255
    maps = audit.explain(model, images[:3], method="saliency", targets=2).attributions
    assert maps is not None
    assert torch.allclose(maps[0].flatten(), torch.from_numpy(theirs.weight[:, 2]), atol=1e-5)


def test_a_model_that_answers_otherwise_is_told(pictures: np.ndarray[Any, Any]) -> None:
    class Ragged(ArrayModel):
        def __call__(self, batch: Sequence[Any], /) -> Sequence[Any]:
            return [np.zeros((2, 4))] * len(batch)

    with pytest.raises(ModelError, match="answered 4 images with 4 arrays of shape"):
        audit.wrap(Ragged(), input_shape=(1, 12, 12), device="cpu")
    unnamed = ArrayModel()
    unnamed.metadata = {"id": "unnamed"}
    with pytest.raises(UsageError, match="Name the classes"):
        audit.wrap(unnamed, input_shape=(1, 12, 12), device="cpu")


def test_ours_is_a_model_of_maites(model: audit.ModelUnderTest, pictures: np.ndarray[Any, Any]) -> None:
    offered = audit.as_maite(model, name="small")
    assert isinstance(offered, protocols.Model) and offered.metadata["index2label"] == NAMES
    images = torch.from_numpy(pictures).float() / 255
    dataset = Pictures(pictures, one_hot([0] * 10), index2label=NAMES)
    from maite.tasks import predict

    batches, _ = predict(model=offered, dataset=dataset, batch_size=4)
    scores = np.concatenate([np.stack(batch) for batch in batches])
    assert np.allclose(scores, model.logits(images).softmax(1).numpy(), atol=1e-6)
    again = audit.wrap(offered, input_shape=(1, 12, 12), device="cpu")
    assert torch.equal(again.predictions(images), model.predictions(images)) and again.classes == model.classes


def test_ours_satisfies_maites_own_checker(model: audit.ModelUnderTest) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        checker = pytest.importorskip("maite.spotcheck")
    if not hasattr(checker, "spotcheck_component"):
        pytest.skip("maite's checker wants its extra `experimental`")
    checked = checker.spotcheck_component(protocols.Model)(audit.as_maite(model))
    (scores,) = checked([np.zeros((1, 12, 12), np.float32)])
    assert np.asarray(scores).shape == (4,)


def test_an_augmentation_is_a_corruption(model: audit.ModelUnderTest, pictures: np.ndarray[Any, Any]) -> None:
    assert isinstance(Darker(), protocols.Augmentation)
    images = torch.from_numpy(pictures).float() / 255
    labels = model.predictions(images)
    state, python_state = np.random.get_state()[1].copy(), random.getstate()
    whole = audit.corrupt(model, images, labels, augmentation=Darker(), seed=2)
    assert np.array_equal(state, np.random.get_state()[1]) and python_state == random.getstate()
    assert whole.method == "darker" and whole.severity is None and whole.correct is not None
    assert (whole.images <= images).all() and (whole.distortion > 0.01).any()
    assert torch.equal(whole.images[3:5], audit.corrupt(model, images[3:5], augmentation=Darker(), seed=2).images)
    assert not torch.equal(whole.images, audit.corrupt(model, images, augmentation=Darker(), seed=3).images)
    sweep = [audit.corrupt(model, images, augmentation=Darker(least)).distortion.mean() for least in (0.9, 0.5, 0.1)]
    assert sweep == sorted(sweep)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda image: image[:, :5], r"shape \(1, 5, 12\) for one of \(1, 12, 12\)"),
        (lambda image: image * 1.0, "where bytes, or floats in"),
        (lambda image: 1 / 0, "'darker' failed: ZeroDivisionError"),
    ],
    ids=range(3),
)
def test_an_augmentation_that_errs_gets_a_sentence(change: Any, words: str, model: audit.ModelUnderTest) -> None:
    class Errs(Darker):
        def __call__(self, batch: Any, /) -> Any:
            return [change(image) for image in batch[0]], batch[1], batch[2]

    with pytest.raises(AuditError, match=words):
        audit.corrupt(model, torch.rand(2, 1, 12, 12), augmentation=Errs())
    with pytest.raises(UsageError, match="of type str, where one of MAITE's"):
        audit.corrupt(model, torch.rand(2, 1, 12, 12), augmentation="fog")


def test_nrtks_perturbers_run_in_physical_units(model: audit.ModelUnderTest) -> None:
    pytest.importorskip("nrtk")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from nrtk.impls.perturb_image.environment import HazePerturber
        from nrtk.interop import MAITEImageClassificationAugmentation
    colour = audit.wrap(
        nn.Sequential(nn.Flatten(), nn.Linear(3 * 256, 4)), classes=4, input_shape=(3, 16, 16), device="cpu"
    )
    images = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(3))
    hazes = []
    for factor in (0.2, 1.0, 3.0):
        perturber = HazePerturber(factor=factor)
        haze = MAITEImageClassificationAugmentation(augment=perturber, augment_id=f"haze {factor}")
        hazed = audit.corrupt(colour, images, augmentation=haze)
        assert hazed.images.shape == images.shape and hazed.method == f"haze {factor}"
        hazes.append(float(hazed.distortion.mean()))
    assert hazes == sorted(hazes) and hazes[-1] > hazes[0] > 0.01


def test_maps_of_a_maite_model_are_judged(pictures: np.ndarray[Any, Any]) -> None:
    """The doors of this package take it as any model."""
    model = audit.wrap(ArrayModel(), input_shape=(1, 12, 12), device="cpu")
    images: Tensor = torch.from_numpy(pictures).float() / 255
    maps = audit.explain(model, images, method="occlusion", window=2).attributions
    assert audit.evaluate_attributions(model, images, maps).scores["deletion_area"].shape == (10,)
