"""Influence functions over all layers with EK-FAC, by the package kronfluence.

The influence of a training image z' on a measurement m at z is grad m . (G + lambda)^-1 grad loss(z'), where the
Gauss-Newton Hessian G of every linear layer and convolution is approximated by Kronecker factors with corrected
eigenvalues (arXiv:2308.03296, section 3; EK-FAC: arXiv:1806.03884). Divided by the root of z's influence on itself it
is RelatIF (arXiv:2003.11630, equation 8), in which no image of high loss is named behind every answer.
"""

from __future__ import annotations

import copy
import importlib.util
import logging
import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from audit.core.errors import SetupError
from audit.core.types import Images, Labels, PassCount
from audit.models.under_test import ModelUnderTest


def require_kronfluence() -> None:
    """Check that the package is there.

    Raises:
        SetupError: It is not.
    """
    if importlib.util.find_spec("kronfluence") is None:
        raise SetupError(
            "Influence by EK-FAC needs kronfluence; install it with pip install 'audit[influence]', or leave "
            "influence.method at tracin."
        )


def ekfac_influence(
    model: ModelUnderTest,
    training: tuple[Images, Labels],
    scored: tuple[Images, Labels],
    tests: tuple[Images, Labels],
) -> Tensor:
    """The influence of images on the losses at test images, relative to that on themselves; positive is support.

    Args:
        model: The model.
        training: Images, float32 (M, C, H, W), and labels, int64 (M,), that the factors are fitted on.
        scored: Images and labels whose influence is asked for, (S, ...).
        tests: Images and labels whose losses are influenced, (N, ...).

    Returns:
        Float64 (N, S), on the CPU.

    Raises:
        SetupError: kronfluence is not installed.
    """
    require_kronfluence()
    from kronfluence.analyzer import Analyzer, prepare_model
    from kronfluence.arguments import FactorArguments, ScoreArguments
    from torch.utils.data import TensorDataset

    logging.getLogger("kronfluence").setLevel(logging.ERROR)
    task = _task()
    module = prepare_model(copy.deepcopy(model.module), task)
    batch = model.layout.batch_size
    sets = [TensorDataset(images.cpu(), labels.cpu()) for images, labels in (training, scored, tests)]
    with tempfile.TemporaryDirectory() as folder, torch.enable_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # kronfluence 1.0.1 calls what torch has renamed
        analyzer = Analyzer(
            "audit",
            module,
            task,
            cpu=model.device.type == "cpu",
            disable_tqdm=True,
            output_dir=str(Path(folder)),
            log_level=logging.ERROR,
        )
        analyzer.fit_all_factors(
            "ekfac", sets[0], per_device_batch_size=batch, factor_args=FactorArguments(strategy="ekfac")
        )
        analyzer.compute_pairwise_scores(
            "scores",
            "ekfac",
            sets[2],
            sets[1],
            per_device_query_batch_size=min(batch, len(sets[2])),
            per_device_train_batch_size=batch,
            score_args=ScoreArguments(),
        )
        analyzer.compute_self_scores("own", "ekfac", sets[1], per_device_train_batch_size=batch)
        scores: Tensor = analyzer.load_pairwise_scores("scores")["all_modules"].double().cpu()
        own: Tensor = analyzer.load_self_scores("own")["all_modules"].double().cpu()
    passes = 2 * len(sets[0]) + 2 * len(sets[1]) + len(sets[2])
    model.charge(PassCount(passes, passes))
    return scores / own.clamp(min=1e-300).sqrt()


def _task() -> Any:
    from kronfluence.task import Task

    class Classification(Task):  # type: ignore[misc]
        """Cross-entropy; with `sample` of labels drawn from the model's own probabilities, for the true Fisher."""

        def compute_train_loss(self, batch: Any, model: nn.Module, sample: bool = False) -> Tensor:
            images, labels = batch
            logits = model(images)
            if sample:
                labels = torch.multinomial(logits.detach().softmax(1), 1).flatten()
            return nn.functional.cross_entropy(logits, labels, reduction="sum")

        def compute_measurement(self, batch: Any, model: nn.Module) -> Tensor:
            images, labels = batch
            return nn.functional.cross_entropy(model(images), labels, reduction="sum")

    return Classification()
