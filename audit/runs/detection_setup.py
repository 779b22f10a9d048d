"""Reads what a run of a detector needs before anything is written: images with boxes, the detector, the device."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from audit.config import RunConfig
from audit.core.errors import UsageError
from audit.core.registry import methods
from audit.data.dataset import Dataset
from audit.data.load import format_of, load_dataset
from audit.models.detectors.build import DetectorClasses, build_detector, names_a_detector
from audit.models.detectors.form import DetectorForm
from audit.models.detectors.load import load_detector
from audit.models.detectors.under_test import DetectorUnderTest
from audit.models.devices import resolve_device
from audit.models.files import is_code, require_trusted_files
from audit.models.formats.hf_config import is_folder
from audit.models.module_copy import copy_module
from audit.planning.run_identity import RunIdentity
from audit.runs.checkpoint_metadata import apply_architecture
from audit.runs.run_setup import RunSetup
from audit.runs.validation import check_training_images, wants_tensorboard
from audit.training.defaults import suited_detector_hardening, suited_detector_training
from audit.training.setup import require_recipe_of_task

DRAWN = "detection-shapes"
"""The images of a run that names none."""
_SMALL = "fcos-small"


def detects(config: RunConfig) -> bool:
    """Whether a run is of a detector: it says so, or its images have boxes, or its architecture is a detector's.

    Args:
        config: The configuration of the run.
    """
    if config.task != "auto":
        return config.task == "detection"
    if format_of(config.data.source).facts["boxes"]:
        return True
    return "architecture" in config.model.model_fields_set and names_a_detector(config.model.architecture)


@dataclass(frozen=True)
class DetectionSetup(RunSetup):
    """What the run of a detector is planned and computed from."""

    def new_module(self, seed: int, architecture: str | None = None) -> DetectorForm:
        """A detector with new weights; a copy of a loaded one that came whole.

        Args:
            seed: Of the weights.
            architecture: Its architecture; that of the run by default.
        """
        if self.loaded is not None and architecture is None:
            module = copy_module(self.loaded.module)
            assert isinstance(module, DetectorForm)
            return module
        name = architecture or self.config.model.architecture
        form, _ = build_detector(
            name, _classes(self.dataset), self.dataset.shape, seed=seed, trust=self.config.model.trust
        )
        return form

    def new_model(self, architecture: str | None = None) -> DetectorUnderTest:
        """A detector with new weights, drawn from the seed of the run.

        Args:
            architecture: Its architecture; that of the run by default.
        """
        return self._wrapped(self.new_module(self.config.seed, architecture))

    def model_factory(self) -> Callable[[], DetectorUnderTest] | None:
        """A function that wraps the loaded detector; None where it is trained in the run."""
        if self.loaded is None:
            return None
        form = self.loaded.module
        assert isinstance(form, DetectorForm)
        return lambda: self._wrapped(form)

    def _wrapped(self, form: DetectorForm) -> DetectorUnderTest:
        return DetectorUnderTest(form, classes=self.dataset.classes, input_shape=self.dataset.shape, device=self.device)


def set_up_detection(config: RunConfig) -> DetectionSetup:
    """Read the images and the detector, before anything is written.

    Args:
        config: The configuration of the run.

    Raises:
        AuditError: The data, the model, the device or a library is missing, wrong, or does not fit the rest.
    """
    requested, device = config, resolve_device(config.device)
    wants_tensorboard(config)
    _require_what_detectors_have(config)
    config = _completed(config)
    config = config.model_copy(update={"training": suited_detector_training(config.training)})
    if not config.model.loads:
        require_recipe_of_task(config.training, detects=True)
    dataset = _images(config)
    if config.model.weights is not None and not is_folder(config.model.weights):
        model = apply_architecture(config.model, dataset.classes, detector=True)
        config = config.model_copy(update={"model": model})
    config = _with_hardening(config, dataset)
    check_training_images(config, dataset)
    loaded = None
    if config.model.loads:
        loaded = load_detector(config.model, _classes(dataset), dataset.shape, device=device, seed=config.seed)
    identity = RunIdentity(
        classes=dataset.classes,
        shape=dataset.shape,
        test=dataset.test.fingerprint,
        test_examples=len(dataset.test),
        architecture=config.model.architecture,
        train=dataset.train.fingerprint if dataset.train else "",
        train_examples=len(dataset.train) if dataset.train else 0,
        loaded=f"file:{loaded.identity}" if loaded else None,
        task="detection",
    )
    setup = DetectionSetup(config, dataset, identity, device, loaded, requested=requested)
    (setup.model_factory() or setup.new_model)()  # refuses a detector that does not run, before anything is written
    require_trusted_files(config.model.trust)
    return replace(setup, trusted=loaded.trusted if loaded else ())


def _completed(config: RunConfig) -> RunConfig:
    """With drawn images and the small detector where the configuration names none."""
    data, model = config.data, config.model
    if "source" not in data.model_fields_set:
        data = data.model_copy(update={"source": DRAWN})
    if model.architecture == "auto" and model.weights is None:
        model = model.model_copy(update={"architecture": _SMALL})
    if is_code(model.architecture) and model.weights is None:
        model = model.model_copy(update={"own_weights": True})
    report = config.report
    if "title" not in report.model_fields_set:
        report = report.model_copy(update={"title": "Object detector audit"})
    return config.model_copy(update={"data": data, "model": model, "report": report, "task": "detection"})


def _images(config: RunConfig) -> Dataset:
    data = config.data
    chosen = format_of(data.source)
    if not chosen.facts["boxes"]:
        names = [method.name for method in methods("data-format") if method.facts["boxes"]]
        raise UsageError(
            f"A detector needs images with boxes, and {data.source!r} has one label an image: give data of "
            f"{', '.join(names)}, or leave --task out to audit a classifier."
        )
    for flag, differs in (
        ("--crop", data.crop is not None),
        ("--rotate", data.rotate != 0),
        ("--flip", data.flip != "none"),
        ("--labels-map", data.labels_map is not None),
        ("--test-share", data.test_share is not None),
    ):
        if differs:
            raise UsageError(f"{flag} is for images with one label each, and {data.source!r} has boxes: leave it out.")
    return load_dataset(
        data.source,
        image_size=data.image_size,
        grayscale=data.grayscale,
        train_examples=data.train_examples,
        strict=data.strict,
        interpolation=data.interpolation,
        transparency=data.transparency,
        pixel_range=data.pixel_range,
        seed=config.seed,
    )


def _require_what_detectors_have(config: RunConfig) -> None:
    """Raises UsageError for what no detector is offered."""
    if config.compression.enabled:
        raise UsageError("Detectors are not compressed here: leave compression out, or give --task classification.")
    if config.model.pretrained is not None:
        raise UsageError("A detector is not trained from --pretrained here: give its weights with --model.")
    if any(settings.nproc > 1 or settings.shares > 1 for settings in (config.training, config.hardening)):
        raise UsageError("A detector is trained in one process: leave --nproc and --shares out.")
    architecture = config.model.architecture
    known = is_code(architecture) or is_folder(config.model.weights) or architecture == "auto"
    if not known and not names_a_detector(architecture):
        raise UsageError(
            f"{architecture!r} is a classifier's architecture, and the run is of a detector: give one of a detector, "
            "such as fcos-small or torchvision:fasterrcnn_resnet50_fpn, or data with one label an image."
        )


def _with_hardening(config: RunConfig, dataset: Dataset) -> RunConfig:
    """With the hardening of detectors, or without any where there is nothing to train on and nobody asked for it."""
    hardening = suited_detector_hardening(config.hardening)
    config = config.model_copy(update={"hardening": hardening})
    if not hardening.asked_for and (dataset.train is None or config.model.loads):
        return config.without_hardening()
    if hardening.enabled:
        require_recipe_of_task(hardening, detects=True)
    return config


def _classes(dataset: Dataset) -> DetectorClasses:
    return DetectorClasses(dataset.classes, dataset.category_ids)
