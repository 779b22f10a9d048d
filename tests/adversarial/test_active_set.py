"""The active set against its slow twin: a loop over examples, one at a time."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from audit.adversarial.active_set import run_search
from audit.adversarial.search_state import SearchState, Step, StepResult
from audit.attacks.pgd import initial_point, pgd_step
from audit.core.seeding import Generators
from audit.core.threat import ThreatModel
from audit.core.types import Batch, ClassMask, Images
from audit.models.losses import is_adversarial_logits, margin
from audit.models.search_form import in_search_precision
from audit.models.under_test import ModelUnderTest

STEPS = 9


@pytest.fixture
def exact_model() -> ModelUnderTest:
    """Weights and images are small multiples of powers of two: no sum rounds, whatever the batch."""
    generator = torch.Generator().manual_seed(2)
    layer = nn.Linear(36, 3)
    with torch.no_grad():
        layer.weight.copy_(torch.randint(-4, 5, (3, 36), generator=generator) / 4)
        layer.bias.zero_()
    return ModelUnderTest(
        nn.Sequential(nn.Flatten(), layer), classes=("a", "b", "c"), input_shape=(1, 6, 6), device="cpu"
    )


@pytest.fixture
def exact_batch(exact_model: ModelUnderTest) -> Batch:
    images = torch.randint(0, 65, (40, 1, 6, 6), generator=torch.Generator().manual_seed(4)) / 64
    return Batch(images, exact_model.predictions(images), tuple(f"x{i}" for i in range(40)))


def draws(batch: Batch) -> Generators:
    return Generators.of(batch.ids, seed=1, purpose="twin", device="cpu")


THREAT = ThreatModel("linf", 1 / 16)


def fast(model: ModelUnderTest, batch: Batch, *, sync_every: int | None = None) -> Images:
    return run_search(
        model,
        batch,
        draws(batch),
        start=initial_point(THREAT, at_random=False),
        step=pgd_step(model, THREAT, margin, 1 / 64),
        steps=STEPS,
        sync_every=sync_every,
    )


def slow(model: ModelUnderTest, batch: Batch) -> Images:
    """PGD written plainly: one image, one loop, stop at the first success."""
    answers = []
    for i in range(len(batch)):
        origin = batch.images[i : i + 1]
        goal = batch.target_mask(3)[i : i + 1]
        image = origin.clone()
        for _ in range(STEPS):
            leaf = image.clone().requires_grad_(True)
            logits = model.net(leaf)
            if bool(goal[0, logits.argmax()]):
                break
            allowed, wanted = logits[~goal].max(), logits[goal].max()
            (gradient,) = torch.autograd.grad(wanted - allowed, leaf)
            moved = image + gradient.sign() / 64
            image = moved.clamp(origin - 1 / 16, origin + 1 / 16).clamp(0, 1)
        answers.append(image)
    return torch.cat(answers)


@pytest.mark.parametrize("window", [1, 7, 64])
@pytest.mark.parametrize("sync_every", [1, 4, 20])
def test_the_window_gives_the_bits_of_a_loop_over_examples(
    exact_model: ModelUnderTest, exact_batch: Batch, window: int, sync_every: int
) -> None:
    exact_model.layout.batch_size = window
    assert torch.equal(fast(exact_model, exact_batch, sync_every=sync_every), slow(exact_model, exact_batch))


def test_some_examples_break_early_and_some_never(exact_model: ModelUnderTest, exact_batch: Batch) -> None:
    """Else the twin would compare only one kind of ending."""
    broken = is_adversarial_logits(exact_model.logits(slow(exact_model, exact_batch)), exact_batch.target_mask(3))
    assert 0 < int(broken.sum()) < len(exact_batch)


def test_solved_examples_cost_nothing_more(exact_model: ModelUnderTest, exact_batch: Batch) -> None:
    exact_model.layout.batch_size = 8
    with exact_model.count() as spent:
        fast(exact_model, exact_batch)
    needed = _steps_needed(exact_model, exact_batch)
    assert spent.backwards == needed < STEPS * len(exact_batch)


def test_random_starts_follow_the_example_and_not_the_window(exact_model: ModelUnderTest, exact_batch: Batch) -> None:
    def recorded(window: int, batch: Batch) -> Tensor:
        exact_model.layout.batch_size = window

        def stay(slots: SearchState) -> StepResult:
            never = torch.zeros(len(slots), dtype=torch.bool)
            return StepResult(slots.images, never, slots.state)

        return run_search(
            exact_model, batch, draws(batch), start=initial_point(THREAT, at_random=True), step=stay, steps=1
        )

    order = torch.arange(39, -1, -1)
    assert torch.equal(recorded(40, exact_batch), recorded(3, exact_batch.select(order))[order])


def test_a_step_sees_its_own_age(exact_model: ModelUnderTest, exact_batch: Batch) -> None:
    exact_model.layout.batch_size = 5
    seen: list[int] = []

    def start(origin: Images, goal: ClassMask, generators: Generators) -> dict[str, Tensor]:
        return {"images": origin, "taken": torch.zeros(len(origin), dtype=torch.int64)}

    def step(slots: SearchState) -> StepResult:
        assert torch.equal(slots.age, slots.state["taken"])
        seen.extend(slots.age.tolist())
        broken = (slots.age == 1) & (slots.origin[:, 0, 0, 0] > 0.5)
        return StepResult(slots.images, broken, {**slots.state, "taken": slots.state["taken"] + 1})

    run_search(exact_model, exact_batch, draws(exact_batch), start=start, step=step, steps=4)
    early = int((exact_batch.images[:, 0, 0, 0] > 0.5).sum())
    assert len(seen) == 4 * (40 - early) + 2 * early


def test_out_of_memory_halves_the_batch_and_changes_nothing(
    exact_model: ModelUnderTest, exact_batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = exact_model.net.forward

    def tight(images: Tensor) -> Tensor:
        if len(images) > 6:
            raise torch.OutOfMemoryError("too many")
        return forward(images)

    monkeypatch.setattr(exact_model.net, "forward", tight)
    exact_model.layout.batch_size = 32
    assert torch.equal(fast(exact_model, exact_batch), slow(exact_model, exact_batch))
    assert exact_model.layout.batch_size <= 6


def test_out_of_memory_for_what_a_search_remembers_changes_nothing(
    exact_model: ModelUnderTest, exact_batch: Batch
) -> None:
    def step(slots: SearchState) -> StepResult:
        if len(slots) > 6:
            raise RuntimeError("CUDA error: out of memory")
        return plain_step(slots)

    def plain_step(slots: SearchState) -> StepResult:
        noise = slots.generators.fork(slots.age).uniform(*slots.origin.shape[1:])
        return StepResult(slots.images, slots.images[:, 0, 0, 0] > 0.9, {"images": noise})

    def start(origin: Images, goal: ClassMask, generators: Generators) -> dict[str, Tensor]:
        return {"images": origin}

    def search(step: Step) -> Images:
        return run_search(exact_model, exact_batch, draws(exact_batch), start=start, step=step, steps=5)

    exact_model.layout.batch_size = 32
    expected = search(plain_step)
    assert torch.equal(search(step), expected)
    assert exact_model.layout.batch_size <= 16


def _steps_needed(model: ModelUnderTest, batch: Batch) -> int:
    count = 0
    for i in range(len(batch)):
        one = batch.select(torch.tensor([i]))
        with model.count() as spent:
            fast(model, one)
        count += spent.backwards
    return count


class Claiming:
    """Steps of PGD that take everything for misclassified, at some ages and in less than float32."""

    def __init__(self, model: ModelUnderTest, ages: range) -> None:
        self.model, self.ages, self.asked_in = model, ages, set[str]()
        self.step = pgd_step(model, THREAT, margin, 1 / 64)

    def __call__(self, slots: SearchState) -> StepResult:
        precision = self.model.module.arithmetic
        self.asked_in.add(precision)
        with self.model.module.computing_in("float32"):  # the same numbers
            took = self.step(slots)
        if precision == "float32":
            return took
        claimed = (slots.age >= self.ages.start) & (slots.age < self.ages.stop)
        return took._replace(broken=took.broken | claimed)

    def search(self, batch: Batch, steps: int, **more: Any) -> Images:
        start = initial_point(THREAT, at_random=False)
        return run_search(self.model, batch, draws(batch), start=start, step=self, steps=steps, **more)


@pytest.mark.parametrize("sync_every", [1, 4])
def test_what_less_than_float32_takes_for_misclassified_goes_on_until_float32_agrees(
    exact_model: ModelUnderTest, exact_batch: Batch, sync_every: int
) -> None:
    """A search that is mistaken about every example once ends where a plain one of a step less does."""
    exact_model.layout.search_precision = "bfloat16"
    expected = slow(exact_model, exact_batch)
    broken = is_adversarial_logits(exact_model.logits(expected), exact_batch.target_mask(3))
    claiming = Claiming(exact_model, range(1))
    found = claiming.search(exact_batch, STEPS + 1, sync_every=sync_every)
    assert claiming.asked_in == {"bfloat16"} and exact_model.module.arithmetic == "float32"
    agreed = is_adversarial_logits(exact_model.logits(found), exact_batch.target_mask(3))
    assert torch.equal(agreed, broken)
    if sync_every == 1:
        assert torch.equal(found, expected)
    exactly = Claiming(exact_model, range(STEPS))
    assert torch.equal(exactly.search(exact_batch, STEPS, exact=True), expected)
    assert exactly.asked_in == {"float32"}


@pytest.mark.parametrize("ages", [range(STEPS), range(STEPS - 1, STEPS), range(3, 5)], ids=["all", "last", "some"])
def test_no_search_asks_more_often_than_it_has_steps(
    exact_model: ModelUnderTest, exact_batch: Batch, ages: range
) -> None:
    exact_model.layout.search_precision = "bfloat16"
    for row in range(len(exact_batch)):
        one = exact_batch.select(torch.tensor([row]))
        with exact_model.count() as spent:
            Claiming(exact_model, ages).search(one, STEPS)
        assert spent.forwards <= STEPS


def test_a_model_that_draws_is_asked_in_float32(exact_model: ModelUnderTest) -> None:
    exact_model.layout.search_precision, exact_model.module.draws = "bfloat16", 4
    with in_search_precision(exact_model) as lower:
        assert not lower and exact_model.module.arithmetic == "float32"
