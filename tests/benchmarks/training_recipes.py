"""Every recipe on the same images, net and time: clean and robust accuracy, passes, seconds.

    python tests/benchmarks/training_recipes.py --data fashion-mnist:DIR --seconds 900 --test 1000

Robust accuracy is that of `audit.robustness` under the battery given. A Markdown row is printed as soon as it is
known. Seconds and epochs depend on the machine; with --epochs instead of --seconds only the seconds do.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass

import audit
from audit.config import AUGMENTATIONS, TrainingConfig
from audit.core.registry import methods
from audit.core.types import Batch
from audit.data.load import load_dataset
from audit.data.sampling import balanced_order
from audit.models.architecture import build
from audit.models.under_test import ModelUnderTest
from audit.training.fit import fit
from audit.training.state import TrainingResult

PREVIOUS: dict[str, dict[str, object]] = {
    "fgsm-rs": {"start": "previous"},
    "pgd": {"start": "previous", "steps": 2},
}
LONG = 200
"""Epochs that no time budget of minutes allows."""


@dataclass(frozen=True)
class Ground:
    """What all recipes share."""

    train: Batch
    test: Batch
    classes: tuple[str, ...]
    shape: tuple[int, int, int]
    threat: audit.ThreatModel
    architecture: str
    battery: str


def settings_of(recipe: str, given: argparse.Namespace) -> dict[str, object]:
    """The same for all but the rate: adversarial losses bear, and want, a higher one of Adam."""
    adam = 2e-3 if recipe == "standard" else 4e-3
    return {
        "recipe": recipe,
        "epochs": given.epochs or LONG,
        "time_budget": None if given.epochs else given.seconds,
        "batch_size": given.batch,
        "optimizer": given.optimizer,
        "learning_rate": given.rate or (adam if given.optimizer == "adam" else 4e-3),
        "augmentation": AUGMENTATIONS[given.augmentation],
        "averaging": given.averaging,
        "recipe_settings": recipe_settings(recipe, given),
    }


def recipe_settings(recipe: str, given: argparse.Namespace) -> dict[str, object]:
    """The defaults, as published; or for fgsm-rs and pgd one of their improvements."""
    if given.previous and recipe in PREVIOUS:
        reused = {"reused_step": given.reused} if recipe == "fgsm-rs" else {}
        return {**PREVIOUS[recipe], **reused}
    if recipe != "fgsm-rs":
        return {}
    return {"start": "random", "clip": not given.unclipped}


def run(recipe: str, ground: Ground, given: argparse.Namespace) -> str:
    """Train, attack, and the row that says so."""
    module = build(ground.architecture, classes=len(ground.classes), input_shape=ground.shape, seed=given.seed)
    begun = time.perf_counter()
    chosen = TrainingConfig.model_validate(settings_of(recipe, given))
    trained = fit(module, ground.train, chosen, classes=len(ground.classes), threat=ground.threat, seed=given.seed)
    seconds = time.perf_counter() - begun
    module.load_state_dict(trained.weights)
    model = ModelUnderTest(module, classes=ground.classes, input_shape=ground.shape, mean=trained.mean, std=trained.std)
    return row(recipe, model, trained, ground, seconds)


def row(recipe: str, model: ModelUnderTest, trained: TrainingResult, ground: Ground, seconds: float) -> str:
    """One line of the table."""
    clean = (model.predictions(ground.test.images).cpu() == ground.test.labels).double().mean()
    found = audit.robustness(model, ground.test.images, ground.test.labels, ground.threat, battery=ground.battery)
    cells = [
        recipe,
        f"{clean:.3f}",
        f"{float(found.robust.double().mean()):.3f}",
        f"{trained.kept_epoch} of {len(trained.history)}",
        f"{trained.passes.backwards / 1e6:.2f} M",
        f"{seconds:.0f}",
    ]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    taught = [method.name for method in methods("recipe") if not method.facts.get("teacher")]
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--data", default="sample")
    parser.add_argument("--eps", type=float, default=0.1)
    parser.add_argument("--norm", default="linf", choices=["linf", "l2", "l1"])
    parser.add_argument("--architecture", default="cnn-28")
    parser.add_argument("--battery", default="standard")
    parser.add_argument("--recipes", nargs="+", default=taught, choices=taught)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--augmentation", default="none", choices=list(AUGMENTATIONS))
    parser.add_argument("--optimizer", default="adam", choices=["adam", "muon"])
    parser.add_argument("--rate", type=float, help="of learning at its peak")
    parser.add_argument("--reused", type=float, default=0.0, help="fgsm-rs with --previous: its reused_step")
    parser.add_argument("--averaging", type=float, default=0.0)
    parser.add_argument("--unclipped", action="store_true", help="fgsm-rs without projection onto the ball")
    parser.add_argument("--previous", action="store_true", help="fgsm-rs, pgd from where they left each image")
    parser.add_argument("--test", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    data = load_dataset(given.data)
    assert data.train is not None
    ground = Ground(
        train=data.train.batch(slice(None)),
        test=data.test.batch(balanced_order(data.test, given.seed)[: given.test]),
        classes=data.classes,
        shape=data.shape,
        threat=audit.ThreatModel(given.norm, given.eps),
        architecture=given.architecture,
        battery=given.battery,
    )
    print(f"{data.name}, {given.architecture}, {ground.threat}, n = {len(ground.test)}, battery {given.battery}\n")
    print("| recipe | clean | robust | kept epoch | gradient passes | seconds |\n|---|---|---|---|---|---|")
    for recipe in given.recipes:
        print(run(recipe, ground, given), flush=True)


if __name__ == "__main__":
    main()
