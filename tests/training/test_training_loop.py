"""The loop learns, keeps the best, resumes bit for bit, and says in a sentence when it cannot go on."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from audit.config import TrainingConfig
from audit.core.errors import DataError, Interrupted, ModelError, TrainingDiverged, UsageError
from audit.core.threat import ThreatModel
from audit.core.types import Batch
from audit.training import checkpoint, loop
from audit.training.callbacks import TrainingCallbacks
from audit.training.checkpoint import FILE, load_training_checkpoint
from audit.training.fit import channel_statistics, fit
from audit.training.state import TrainingResult
from audit.training.training_data import SplitImages
from audit.training.validation import Validator
from tests.training.toy import same_weights, thirds, tiny_net

LINF = ThreatModel("linf", 0.1)


def learn(
    batch: Batch,
    settings: TrainingConfig,
    *,
    seed: int = 0,
    callbacks: TrainingCallbacks | None = None,
    norm: bool = False,
) -> TrainingResult:
    return fit(tiny_net(norm=norm), batch, settings, classes=3, threat=LINF, seed=seed, callbacks=callbacks)


class Killed(BaseException):
    """Stands for kill -9: nothing of the loop runs after it."""


def killed_at(step: int) -> Any:
    def progress(done: int, total: int) -> None:
        if done >= step:
            raise Killed

    return progress


@pytest.fixture(autouse=True)
def look_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "STEPS_BETWEEN_CHECKS", 1)


def test_it_learns_a_problem_a_linear_net_can_solve(examples: Batch, short: TrainingConfig) -> None:
    trained = learn(examples, short.model_copy(update={"epochs": 6}))
    assert trained.history[-1]["clean_accuracy"] > 0.9
    assert trained.history[-1]["loss"] < 0.5 * trained.history[0]["loss"]


@pytest.mark.parametrize("optimizer", ["muon", "adam", "adamw", "sgd", "rmsprop", "adagrad"])
def test_every_optimizer_learns_and_resumes(
    optimizer: str, examples: Batch, short: TrainingConfig, tmp_path: Path
) -> None:
    rate = {"sgd": 0.1, "adagrad": 0.1}.get(optimizer, 0.02)
    settings = short.model_copy(update={"optimizer": optimizer, "learning_rate": rate, "epochs": 4})
    whole = learn(examples, settings)
    assert whole.history[-1]["clean_accuracy"] > 0.6
    with pytest.raises(Killed):
        learn(examples, settings, callbacks=TrainingCallbacks(tmp_path, killed_at(12)))
    assert same_weights(learn(examples, settings, callbacks=TrainingCallbacks(tmp_path)).weights, whole.weights)


EVERYTHING: Mapping[str, Any] = {
    "recipe": "pgd",
    "recipe_settings": {"steps": 2},
    "averaging": 0.9,
    "dropout": 0.2,
    "label_smoothing": 0.1,
    "weight_perturbation": 0.005,
    "clip_gradient": 1.0,
    "l1": 1e-5,
    "l2": 1e-4,
}

REMEMBERING: Mapping[str, Any] = {"recipe": "fgsm-rs", "recipe_settings": {"start": "previous", "relative_step": 1.0}}


@pytest.mark.parametrize("step", [0, 3, 7, 10, 20])
@pytest.mark.parametrize("changes", [{}, EVERYTHING, REMEMBERING], ids=["plain", "everything", "remembering"])
def test_killed_at_any_step_it_ends_in_the_same_bits(
    step: int, changes: Mapping[str, Any], examples: Batch, short: TrainingConfig, tmp_path: Path
) -> None:
    settings = short.model_copy(update=dict(changes))
    whole = learn(examples, settings, norm=True)
    with pytest.raises(Killed):
        learn(examples, settings, callbacks=TrainingCallbacks(tmp_path, killed_at(step)), norm=True)
    resumed = learn(examples, settings, callbacks=TrainingCallbacks(tmp_path), norm=True)
    assert same_weights(resumed.weights, whole.weights)
    assert resumed.history == whole.history
    assert resumed.kept_epoch == whole.kept_epoch


def test_asked_to_stop_it_saves_the_step_it_reached_and_goes_on_from_there(
    examples: Batch, short: TrainingConfig, tmp_path: Path
) -> None:
    settings = short.model_copy(update=dict(EVERYTHING))
    whole = learn(examples, settings)
    reached: list[int] = []
    stop = TrainingCallbacks(tmp_path, lambda done, total: reached.append(done), lambda: len(reached) > 10)
    with pytest.raises(Interrupted, match="epoch 2 of 3"):
        learn(examples, settings, callbacks=stop)
    again: list[int] = []
    resumed = learn(examples, settings, callbacks=TrainingCallbacks(tmp_path, lambda done, total: again.append(done)))
    assert again[0] == reached[-1] > 7
    assert same_weights(resumed.weights, whole.weights)
    assert resumed.history == whole.history
    assert resumed.passes == whole.passes


def test_a_finished_training_is_not_repeated(examples: Batch, short: TrainingConfig, tmp_path: Path) -> None:
    first = learn(examples, short, callbacks=TrainingCallbacks(tmp_path))
    steps: list[int] = []
    second = learn(examples, short, callbacks=TrainingCallbacks(tmp_path, lambda done, total: steps.append(done)))
    assert steps == []
    assert same_weights(first.weights, second.weights)


def test_the_seed_decides_the_weights_and_nothing_else_does(examples: Batch, short: TrainingConfig) -> None:
    first = learn(examples, short, seed=1)
    torch.manual_seed(99)
    again = learn(examples, short, seed=1)
    other = learn(examples, short, seed=2)
    assert same_weights(first.weights, again.weights)
    assert not same_weights(first.weights, other.weights)


def test_the_global_generator_is_left_as_it_was(examples: Batch, short: TrainingConfig) -> None:
    before = torch.get_rng_state()
    learn(examples, short.model_copy(update={"dropout": 0.5}))
    assert torch.equal(torch.get_rng_state(), before)


def test_the_kept_epoch_is_the_best_on_held_out_images_and_not_the_last(examples: Batch, short: TrainingConfig) -> None:
    settings = short.model_copy(update={"epochs": 5, "schedule": "step", "learning_rate": 0.05})
    states: list[dict[str, Tensor]] = []
    net = tiny_net()

    def record(history: Sequence[Mapping[str, Any]]) -> None:
        states.append({name: value.clone() for name, value in net.state_dict().items()})
        for parameter in net.parameters() if len(history) == 2 else ():
            parameter.data.zero_()

    trained = fit(net, examples, settings, classes=3, callbacks=TrainingCallbacks(on_epoch=record))
    scores = [row["clean_accuracy"] for row in trained.history]
    best = max(range(5), key=lambda i: (scores[i], i))
    assert trained.kept_epoch == best + 1
    assert same_weights(trained.weights, states[best])


@pytest.mark.parametrize(
    ("schedule", "recipe", "scores", "kept"),
    [
        ("one-cycle", "pgd", (0.60, 0.707, 0.703), 3),  # of 300 images: a standard error is .026
        ("cosine", "pgd", (0.60, 0.72, 0.70), 3),
        ("one-cycle", "pgd", (0.60, 0.72, 0.68), 2),  # robust overfitting, beyond it
        ("one-cycle", "pgd", (0.72, 0.71, 0.66), 1),  # the middle epoch is not the last
        ("step", "pgd", (0.60, 0.707, 0.703), 2),  # the rate is not zero
        ("one-cycle", "standard", (0.60, 0.707, 0.703), 3),
        ("one-cycle", "ibp", (0.60, 0.707, 0.703), 2),  # proven shares have no such noise
    ],
)
def test_the_last_epoch_is_kept_where_the_rate_ends_at_zero_and_chance_may_explain_the_difference(
    monkeypatch: pytest.MonkeyPatch, schedule: str, recipe: str, scores: tuple[float, ...], kept: int
) -> None:
    name = {"standard": "clean_accuracy", "ibp": "proven_accuracy"}.get(recipe, "robust_accuracy")
    found = iter(scores)
    monkeypatch.setattr(Validator, "__call__", lambda *_: {"clean_accuracy": 0.9, name: next(found)})
    settings = TrainingConfig(
        recipe=recipe, schedule=schedule, epochs=3, batch_size=256, held_out=0.5, probe_examples=300
    )
    assert learn(thirds(600), settings).kept_epoch == kept


def test_adversarial_training_is_judged_by_robust_accuracy(examples: Batch, short: TrainingConfig) -> None:
    trained = learn(examples, short.model_copy(update={"recipe": "pgd", "epochs": 4}))
    robust = [row["robust_accuracy"] for row in trained.history]
    assert trained.history[0]["robust_accuracy"] < robust[trained.kept_epoch - 1]
    assert all(row["robust_accuracy"] <= row["clean_accuracy"] for row in trained.history)


def test_passes_are_counted_in_examples(examples: Batch, short: TrainingConfig) -> None:
    trained = learn(examples, short)
    learnt, held_out = 7 * 30 * 3, 24 * 3
    assert trained.passes.backwards == learnt
    assert trained.passes.forwards == learnt + held_out


def test_early_stopping_says_why(examples: Batch, short: TrainingConfig) -> None:
    settings = short.model_copy(update={"epochs": 30, "early_stopping": 2, "learning_rate": 1e-6})
    trained = learn(examples, settings)
    assert len(trained.history) < 30
    assert trained.stopped == "no better epoch in 2"


def test_a_loss_that_is_not_finite_names_the_step_the_rate_and_the_checkpoint(
    examples: Batch, short: TrainingConfig, tmp_path: Path
) -> None:
    net = tiny_net()

    def poison(history: Sequence[Mapping[str, Any]]) -> None:
        net[0].weight.data.fill_(float("nan"))

    with pytest.raises(
        TrainingDiverged, match=r"step 8 of 21 \(epoch 2\) with learning rate 0.02.*is that of epoch 1"
    ) as caught:
        fit(
            net,
            examples,
            short.model_copy(update={"schedule": "constant"}),
            classes=3,
            callbacks=TrainingCallbacks(tmp_path, on_epoch=poison),
        )
    assert FILE in str(caught.value)


def test_a_single_class_is_refused(examples: Batch, short: TrainingConfig) -> None:
    one = examples.select(examples.labels == 1)
    with pytest.raises(DataError, match="All 72 training images have the label 1"):
        learn(one, short)


def test_an_adversarial_recipe_without_an_adversary_is_refused(examples: Batch, short: TrainingConfig) -> None:
    with pytest.raises(UsageError, match="'pgd' trains against an adversary"):
        fit(tiny_net(), examples, short.model_copy(update={"recipe": "pgd"}), classes=3)


def test_resuming_with_other_settings_names_them(examples: Batch, short: TrainingConfig, tmp_path: Path) -> None:
    learn(examples, short, callbacks=TrainingCallbacks(tmp_path))
    changed = short.model_copy(update={"learning_rate": 0.5, "epochs": 4})
    with pytest.raises(UsageError, match=r"epochs \(3 there, 4 now\), learning_rate \(0.02 there, 0.5 now\)"):
        learn(examples, changed, callbacks=TrainingCallbacks(tmp_path))


def test_an_unfinished_training_with_other_settings_beside_it_is_named_and_left(
    examples: Batch, short: TrainingConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Runs keep trainings by what they are: a changed configuration is another folder, and nobody would notice."""
    learn(examples, short, callbacks=TrainingCallbacks(tmp_path / "a", role="standard"))
    learn(
        examples, short.model_copy(update={"epochs": 1}), callbacks=TrainingCallbacks(tmp_path / "b", role="hardened")
    )
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / FILE).write_bytes(b"not a checkpoint")
    before = (tmp_path / "a" / FILE).read_bytes()
    caplog.clear()
    changed = short.model_copy(update={"learning_rate": 0.5, "epochs": 2})
    learn(examples, changed, callbacks=TrainingCallbacks(tmp_path / "d", role="standard"))
    (message,) = [record.getMessage() for record in caplog.records]
    assert "the standard model" in message and "epochs (3 there, 2 now), learning_rate (0.02 there, 0.5 now)" in message
    assert (tmp_path / "a" / FILE).read_bytes() == before


@pytest.mark.parametrize("damage", [b"", b"not a checkpoint", None])
def test_a_damaged_checkpoint_is_told_and_not_ignored(
    damage: bytes | None, examples: Batch, short: TrainingConfig, tmp_path: Path
) -> None:
    learn(examples, short, callbacks=TrainingCallbacks(tmp_path))
    body = (tmp_path / FILE).read_bytes()
    (tmp_path / FILE).write_bytes(body[: len(body) // 2] if damage is None else damage)
    with pytest.raises(ModelError, match="cannot be read"):
        learn(examples, short, callbacks=TrainingCallbacks(tmp_path))


@pytest.mark.parametrize(
    "where", ["weights/0.weight", "best/7.bias", "optimizer/0/momentum", '"facts"', "epoch/losses"]
)
def test_one_flipped_bit_of_a_checkpoint_is_told(
    where: str, examples: Batch, short: TrainingConfig, tmp_path: Path
) -> None:
    with pytest.raises(Interrupted):
        steps: list[int] = []
        stop = TrainingCallbacks(tmp_path, lambda done, total: steps.append(done), lambda: len(steps) > 10)
        learn(examples, short, callbacks=stop)
    body = bytearray((tmp_path / FILE).read_bytes())
    header = json.loads(body[8 : 8 + int.from_bytes(body[:8], "little")])
    if where == '"facts"':
        at = body.index(b"train_accuracy") + len("train_accuracy") - 1
    else:
        at = 8 + int.from_bytes(body[:8], "little") + header[where]["data_offsets"][1] - 1
    body[at] ^= 1
    (tmp_path / FILE).write_bytes(body)
    with pytest.raises(ModelError, match=r"cannot be read \(its checksum is wrong\)\. Remove it"):
        learn(examples, short, callbacks=TrainingCallbacks(tmp_path))


def test_the_same_images_are_held_out_in_whatever_order_they_come(short: TrainingConfig) -> None:
    batch = thirds(200)
    first, second = (SplitImages(batch.select(order), short) for order in (torch.arange(200), torch.randperm(200)))
    assert set(first.held_out.ids) == set(second.held_out.ids)
    assert not set(first.held_out.ids) & set(first.examples.ids)
    assert len(first.held_out) == 20


def test_normalisation_is_measured_where_it_is_not_given(examples: Batch, short: TrainingConfig) -> None:
    mean, std = channel_statistics(examples.images)
    assert mean[0] == pytest.approx(float(examples.images.mean()), abs=1e-6)
    assert std[0] == pytest.approx(float(examples.images.std()), abs=1e-4)
    assert learn(examples, short).mean == mean
    given = fit(tiny_net(), examples, short, classes=3, mean=0.5, std=(0.25,))
    assert (given.mean, given.std) == ((0.5,), (0.25,))


def test_a_checkpoint_holds_float32_weights_and_only_tensors(
    examples: Batch, short: TrainingConfig, tmp_path: Path
) -> None:
    trained = learn(examples, short.model_copy(update={"precision": "bfloat16"}), callbacks=TrainingCallbacks(tmp_path))
    assert {value.dtype for value in trained.weights.values()} == {torch.float32}
    with pytest.raises(UsageError, match="other settings"):
        load_training_checkpoint(tmp_path, {})


def test_a_checkpoint_of_another_format_is_refused(
    examples: Batch, short: TrainingConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learn(examples, short, callbacks=TrainingCallbacks(tmp_path))
    monkeypatch.setattr(checkpoint, "_FORMAT", 4)
    with pytest.raises(ModelError, match=r"has format 3, and this version of audit reads 4\. Remove it"):
        learn(examples, short, callbacks=TrainingCallbacks(tmp_path))


def test_a_net_that_ends_in_softmax_learns_too(examples: Batch, short: TrainingConfig) -> None:
    net = nn.Sequential(*tiny_net(), nn.Softmax(1))
    trained = fit(net, examples, short.model_copy(update={"epochs": 5}), classes=3)
    assert trained.history[-1]["clean_accuracy"] > 0.8


@pytest.mark.parametrize("bad", [0, 19, 20, 44])
def test_the_first_loss_that_is_not_finite_is_named_however_many_were_looked_at_before(bad: int) -> None:
    losses = [torch.tensor(float("nan") if step == bad else 1.0) for step in range(45)]
    settings = SimpleNamespace(learning_rate=0.1, schedule="constant")
    setup: Any = SimpleNamespace(steps_per_epoch=45, settings=settings)
    with pytest.raises(TrainingDiverged, match=f"at step {bad + 1} of 45"):
        for done in (20, 40, 45):
            state: Any = SimpleNamespace(epoch=0, losses=losses[:done], total_steps=lambda setup: 45)
            TrainingCallbacks().require_finite(setup, state)
