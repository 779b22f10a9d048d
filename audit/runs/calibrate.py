"""Fits a temperature to a checkpoint on held-out images, and writes a checkpoint with it inside."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save

from audit.config import RunConfig
from audit.core.errors import DataError, ModelError, UsageError
from audit.core.evidence import Array
from audit.core.statistics import Interval, bootstrap_mean
from audit.data.sampling import balanced_order
from audit.explanation.temperature_fold import with_temperature
from audit.metrics.classification import calibration_error, probabilities
from audit.metrics.temperature import fit_temperature, negative_log_likelihood
from audit.metrics.weak_slices import halves
from audit.models.formats.safetensors_file import CUT, with_metadata
from audit.models.load import load_model
from audit.models.under_test import ModelUnderTest
from audit.runs.checkpoint_metadata import preparation_header, read_metadata
from audit.runs.label_numbers import wrap_loaded
from audit.runs.run_setup import RunSetup
from audit.runs.setup import set_up
from audit.storage.store import write_atomically

TEMPERATURE = "temperature"
"""The entry of a checkpoint's header that says by what its logits were divided."""
FEWEST_LABELLED = 100
"""Least labelled images: one half to fit on, the other to judge on."""
_CLOSE = 1e-4
_ONE = 1e-3
"""How near to 1 a temperature changes nothing to speak of, as that of a checkpoint that was calibrated before."""
_STRIDE = 512


@dataclass(frozen=True)
class Calibrated:
    """What a temperature did, measured on images that it was not fitted on.

    Attributes:
        temperature: What the logits are divided by.
        fitted_on: Number of images it was fitted on.
        accuracy: Share of the others classified right, before and after.
        error_before: Expected calibration error before, with its interval.
        error_after: The same after.
        likelihood_before: Mean negative log-likelihood before, with its interval.
        likelihood_after: The same after.
        likelihood_change: Mean over the same images of after less before, with its interval: below 0 where it helped.
        path: The checkpoint that was written.
    """

    temperature: float
    fitted_on: int
    accuracy: float
    error_before: Interval
    error_after: Interval
    likelihood_before: Interval
    likelihood_after: Interval
    likelihood_change: Interval
    path: Path

    @property
    def notes(self) -> tuple[str, ...]:
        """A sentence where the temperature did not help on the images that it was judged on.

        By the likelihood, which is what the temperature was fitted to and is a proper score; the calibration error of
        few images is biased upwards.
        """
        change = self.likelihood_change
        if change.estimate < 0 or abs(self.temperature - 1) < _ONE:
            return ()
        return (
            f"The temperature did not help: on the {change.n} images that it was judged on, the negative "
            f"log-likelihood changed by {change.estimate:+.2g} (95% interval {change.low:+.2g} to {change.high:+.2g}), "
            "where less was expected. Keep the checkpoint as it was, or fit on more images (--data).",
        )


def calibrate_checkpoint(config: RunConfig, out: Path) -> Calibrated:
    """Fit a temperature on one half of the test images, judge it on the other, and write it into the weights.

    The last layer's weights are divided by it, so that everything that loads the file applies it. Nothing is written
    unless the file, loaded again, answers as it should.

    Args:
        config: The configuration, whose `model.weights` is the checkpoint.
        out: The safetensors file to write.

    Raises:
        DataError: The images have no labels, or are too few.
        ModelError: The checkpoint brings its own architecture, gives no probabilities, or has no last layer that can
            take a temperature.
        UsageError: The file to write is the checkpoint itself, or no .safetensors file.
    """
    if out.suffix != ".safetensors":
        raise UsageError(f"--out {str(out)!r} must end in .safetensors: the format that the checkpoint is written in.")
    if config.model.weights and out.exists() and out.samefile(config.model.weights):
        raise UsageError(f"--out {str(out)!r} is the checkpoint itself; give another name: it is left as it is.")
    setup = set_up(config.without_hardening())
    model = _checked_model(setup)
    logits, labels = _answers(setup, model)
    fitting = halves(len(labels), setup.config.seed)
    temperature = fit_temperature(logits[fitting], labels[fitting])
    body = _checkpoint(setup, model, temperature)
    _require_same_answers(setup, body, logits / temperature)
    write_atomically(out, body, flag="--out")
    before, after, judged = logits[~fitting], logits[~fitting] / temperature, labels[~fitting]
    likelihoods = [negative_log_likelihood(given, judged) for given in (before, after)]
    return Calibrated(
        temperature=temperature,
        fitted_on=int(fitting.sum()),
        accuracy=float((before.argmax(1) == judged).mean()),
        error_before=calibration_error(before, judged),
        error_after=calibration_error(after, judged),
        likelihood_before=bootstrap_mean(likelihoods[0]),
        likelihood_after=bootstrap_mean(likelihoods[1]),
        likelihood_change=bootstrap_mean(likelihoods[1] - likelihoods[0]),
        path=out,
    )


def _checked_model(setup: RunSetup) -> ModelUnderTest:
    """The loaded model, where a temperature can be fitted and kept."""
    loaded, name = setup.loaded, Path(str(setup.config.model.weights)).name
    if setup.subject.task != "classification":
        raise UsageError("A temperature is fitted to classifiers; this model detects objects.")
    if loaded is None:
        raise UsageError("A temperature needs a model that exists: give a checkpoint.")
    if not setup.subject.labelled:
        raise DataError(
            "A temperature is fitted to right answers, and these images have no labels; give labelled ones."
        )
    if len(setup.dataset.test) < FEWEST_LABELLED:
        raise DataError(
            f"{len(setup.dataset.test)} labelled images are too few to fit a temperature and to judge it; at least "
            f"{FEWEST_LABELLED} were expected. Give more with --data."
        )
    if loaded.whole:
        raise ModelError(
            f"{name} brings its own architecture as code or a graph, and only weights are written here; give a state "
            "dict with --architecture."
        )
    model = wrap_loaded(setup.config.model, setup.dataset, loaded, setup.device)
    if model.output_kind == "sigmoid" and len(model.classes) > 2:
        raise ModelError(f"{name} gives each class a score of its own: there is no confidence to calibrate.")
    return model


def _answers(setup: RunSetup, model: ModelUnderTest) -> tuple[Array, Array]:
    """Logits float64 and labels of the test images, in audit order."""
    order = balanced_order(setup.dataset.test, setup.config.seed)
    parts = []
    for start in range(0, len(order), _STRIDE):
        parts.append(model.logits(setup.dataset.test.batch(order[start : start + _STRIDE]).images).cpu().double())
    return torch.cat(parts).numpy(), setup.dataset.test.labels[order]


def _checkpoint(setup: RunSetup, model: ModelUnderTest, temperature: float) -> bytes:
    """The file with the temperature in its last layer, and what loading needs in its header."""
    loaded, config = setup.loaded, setup.config.model
    assert loaded is not None  # _checked_model refuses the others
    module = with_temperature(loaded.module, model, temperature, Path(str(config.weights)).name)
    state = {name: values.detach().cpu().contiguous().clone() for name, values in module.state_dict().items()}
    earlier = float(read_metadata(config.weights).get(TEMPERATURE, "1"))
    header = {
        "architecture": loaded.architecture,
        "classes": json.dumps(setup.dataset.classes),
        "input_shape": json.dumps(setup.dataset.shape),
        "mean": json.dumps(model.mean),
        "std": json.dumps(model.std),
        TEMPERATURE: json.dumps(temperature * earlier),
        **preparation_header(setup.config.data),
        **({CUT: "channels"} if loaded.cut else {}),
    }
    return with_metadata(save(state), header)


def _require_same_answers(setup: RunSetup, body: bytes, expected: Array) -> None:
    """Raises ModelError where the file, loaded again, does not give the probabilities of the divided logits."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "calibrated.safetensors"
        path.write_bytes(body)
        config = setup.config.model.model_copy(update={"weights": str(path), "weights_entry": ""})
        again = load_model(
            config,
            classes=setup.dataset.classes,
            input_shape=setup.dataset.shape,
            device=setup.device,
            seed=setup.config.seed,
        )
        logits, _ = _answers(setup, wrap_loaded(config, setup.dataset, again, setup.device))
    same = np.allclose(probabilities(logits), probabilities(expected), atol=_CLOSE)
    if not same or (logits.argmax(1) != expected.argmax(1)).mean() > _CLOSE:
        raise ModelError(
            f"{Path(str(setup.config.model.weights)).name} does not divide its logits when its last layer is divided: "
            "something follows that layer, or its weights are used elsewhere. Divide the logits where they are used."
        )
