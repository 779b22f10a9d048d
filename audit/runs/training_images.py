"""Which images a run has to train on: the data's own, some held out for testing, or none."""

from __future__ import annotations

from dataclasses import replace

from audit.config import RunConfig
from audit.core.errors import UsageError
from audit.core.note import note
from audit.data.dataset import Columns, Dataset
from audit.data.hold_out import USUAL_SHARE
from audit.data.load import load_dataset
from audit.models.files import is_code
from audit.runs.validation import needs_training_data


def load_images(config: RunConfig) -> Dataset:
    """The images of a configuration, some of them held out to test where it trains and the data has one part.

    Args:
        config: The configuration of the run.

    Raises:
        DataError: The data cannot be read.
        UsageError: `test_share` is set and the data has two parts, or too few images.
    """
    data = config.data
    share = data.test_share or (USUAL_SHARE if _must_train(config) else None)
    dataset = load_dataset(
        data.source,
        image_size=data.image_size,
        grayscale=data.grayscale,
        train_examples=data.train_examples,
        strict=data.strict,
        labels_map=data.labels_map,
        crop=data.crop,
        rotate=data.rotate,
        flip=data.flip,
        interpolation=data.interpolation,
        transparency=data.transparency,
        pixel_range=data.pixel_range,
        columns=Columns(data.path_column, data.label_column, data.split_column, data.mask_column),
        test_share=share,
        seed=config.seed,
    )
    if data.test_share is not None and not any(item.key == "data_held_out" for item in dataset.notes):
        reason = "has a train and a test part" if dataset.train else "has no class with two labelled images"
        raise UsageError(
            f"--test-share holds images out of data that has one part, and {dataset.name} {reason}; leave it out."
        )
    return dataset


def without_needless_hardening(config: RunConfig, dataset: Dataset) -> tuple[RunConfig, Dataset]:
    """The configuration without hardening where nobody asked for it and there is nothing to train on.

    Args:
        config: The configuration of the run.
        dataset: Its images.

    Returns:
        The configuration, and the images with a note where it was changed.
    """
    hardening = config.hardening
    if not config.model.loads or dataset.train is not None or not hardening.enabled or hardening.asked_for:
        return config, dataset
    said = note(
        "data_no_hardening",
        "There are no training images, so the model is audited as it is and not hardened; data with a train part, or "
        "--test-share, hardens it too.",
    )
    return config.without_hardening(), replace(dataset, notes=(*dataset.notes, said))


def _must_train(config: RunConfig) -> bool:
    """Whether the run trains in any case: there is no model, or hardening or compression is asked for."""
    model = config.model
    may_be_trained = model.loads or (is_code(model.architecture) and model.own_weights is not False)
    return not may_be_trained or config.hardening.asked_for or needs_training_data(config.compression)
