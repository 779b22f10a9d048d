"""A training that runs out of memory goes on with less of it, to the same weights, or says what to change."""

from __future__ import annotations

import copy
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from audit.config import TrainingConfig
from audit.core.errors import Interrupted, SetupError
from audit.core.threat import ThreatModel
from audit.core.types import PassCount
from audit.training.callbacks import TrainingCallbacks
from audit.training.fit import fit
from audit.training.memory import IN_PARTS, fitting
from audit.training.state import TrainingResult
from audit.training.training_module import TrainingModule
from tests.memory_faults import MEMORY_FAULTS, Starved
from tests.pretended_device import ELSEWHERE, PretendedDevice
from tests.training.toy import same_weights, thirds, tiny_net

PGD = TrainingConfig(
    recipe="pgd",
    recipe_settings={"steps": 2},
    epochs=2,
    batch_size=32,
    optimizer="sgd",
    learning_rate=0.02,
    held_out=0.1,
    probe_examples=24,
    probe_steps=2,
    precision="float32",
)
FAULT = MEMORY_FAULTS["of the processor"]


def learn(
    settings: TrainingConfig,
    starved: nn.Module | None = None,
    net: nn.Module | None = None,
    *,
    norm: bool = False,
    **options: Any,
) -> TrainingResult:
    first, *others = tiny_net(norm=norm)
    net = net or nn.Sequential(first, starved or nn.Identity(), *others)
    return fit(net, thirds(112), settings, classes=3, threat=ThreatModel("l2", 0.5), seed=3, **options)


def close(first: TrainingResult, second: TrainingResult) -> bool:
    pairs = [(value, second.weights[name]) for name, value in first.weights.items()]
    return all(torch.allclose(value, other, rtol=1e-4, atol=1e-5) for value, other in pairs)


@pytest.mark.parametrize("going_back", [False, True], ids=["forward", "back"])
def test_every_kind_of_fault_anywhere_in_a_step_ends_in_the_same_weights(going_back: bool) -> None:
    faults = list(MEMORY_FAULTS.values())[:: -1 if going_back else 1]
    starved = Starved(4, *faults, going_back=going_back)
    found, expected = learn(PGD, starved), learn(PGD)
    assert starved.raised == 6 >= len(faults) - 2, "halved from 32 to 4 in eval mode and in train mode, and kept"
    assert close(found, expected) and found.passes == expected.passes
    assert [row["clean_accuracy"] for row in found.history] == [row["clean_accuracy"] for row in expected.history]
    assert IN_PARTS in found.notes and IN_PARTS not in expected.notes


@pytest.mark.parametrize("recipe", ["standard", "fgsm-rs", "free", "trades", "mart"])
def test_the_other_recipes_fit_in_little_memory_too(recipe: str) -> None:
    settings = PGD.model_copy(update={"recipe": recipe, "recipe_settings": {}, "epochs": 1})
    starved = Starved(8, FAULT, going_back=recipe == "free")
    assert close(learn(settings, starved), learn(settings)) and starved.raised


def test_shares_fit_in_little_memory_too() -> None:
    settings = PGD.model_copy(update={"shares": 4, "weight_perturbation": 0.01})
    starved = Starved(4, FAULT)
    found, expected = learn(settings, starved), learn(settings)
    assert starved.raised and close(found, expected) and IN_PARTS in found.notes


@pytest.mark.slow
def test_one_of_two_processes_that_runs_out_takes_parts_and_the_training_says_so() -> None:
    """The other goes on as it was, and what they exchange stays in step."""
    settings = PGD.model_copy(update={"shares": 4, "epochs": 1})
    starved = Starved(4, FAULT, when=lambda _: __import__("os").environ.get("RANK") == "1")
    found, expected = learn(settings, starved, nproc=2), learn(settings)
    assert close(found, expected) and found.passes == expected.passes and IN_PARTS in found.notes


def test_an_attack_in_parts_leaves_batch_norm_the_whole_batch() -> None:
    """Only the attack and the held-out images run out, where each image is asked about by itself."""
    starved = Starved(5, FAULT, when=lambda training: not training)
    found, expected = learn(PGD, starved, norm=True), learn(PGD, norm=True)
    assert starved.raised and close(found, expected)


@pytest.mark.parametrize("layer", [nn.BatchNorm2d(4), nn.Dropout(0.1)], ids=["mixes", "draws"])
def test_a_batch_that_layers_need_whole_is_not_cut(layer: nn.Module) -> None:
    starved = Starved(5, FAULT, when=lambda training: training)
    with pytest.raises(SetupError, match=r"while training with batches of 32.*--batch-size 16"):
        learn(PGD, nn.Sequential(layer, starved))


def test_the_note_survives_a_stop_in_the_epoch_that_ran_out(tmp_path: Path) -> None:
    once = Starved(5, FAULT, when=lambda training: once.raised < 1)
    with pytest.raises(Interrupted):
        learn(PGD, once, callbacks=TrainingCallbacks(tmp_path, stopping=lambda: once.raised > 0))
    resumed = learn(PGD, Starved(1000, FAULT), callbacks=TrainingCallbacks(tmp_path))
    assert IN_PARTS in resumed.notes


def test_a_pass_that_failed_leaves_no_trace_in_statistics_or_draws() -> None:
    """It runs out once behind layers that draw and count, and has room the next time."""
    net = TrainingModule(nn.Sequential(nn.Dropout(0.5), *tiny_net(norm=True)), (0.0,), (1.0,))
    images = thirds(12).images
    net.learn_outputs(images[:4], 3)
    net.train()
    calls: list[tuple[Tensor, ...]] = []

    def compute() -> Tensor:
        logits = net(images)
        calls.append((logits, *(buffer.clone() for buffer in net.net.buffers())))
        if len(calls) == 1:
            raise FAULT
        return logits

    net.memory.use_less = lambda net: True  # type: ignore[method-assign, assignment]
    fitting(net, compute)
    assert len(calls) == 2 and all(torch.equal(first, second) for first, second in zip(*calls, strict=True))
    assert net.passes == PassCount(12, 0)


def test_a_gpu_keeps_what_it_needs_going_back_in_the_computers_memory_to_the_same_bits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("audit.training.memory._SMALL", 0)
    settings = PGD.model_copy(update={"epochs": 1})
    blocks = [[nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()] for _ in range(6)]
    deep = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), *chain(*blocks), nn.Flatten(), nn.Linear(648, 3))
    with PretendedDevice() as roomy:
        expected = learn(settings, net=copy.deepcopy(deep), device=ELSEWHERE)
    with PretendedDevice(memory=0.5 * roomy.memory.most) as tight:
        found = learn(settings, net=copy.deepcopy(deep), device=ELSEWHERE)
    assert tight.memory.refused and same_weights(found.weights, expected.weights) and IN_PARTS not in found.notes
