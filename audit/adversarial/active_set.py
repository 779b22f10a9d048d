"""The active set: a window of examples in work; a solved or exhausted one leaves at once, the next takes its slot.

A search is two functions on per-example state: `start` makes the state of new examples, `step` asks the model about one
image of each and moves on. Examples never mix, so the answer is that of a loop over examples, one at a time; only
floating-point rounding may differ.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple, TypeAlias
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from audit.core.errors import AuditError
from audit.core.seeding import Generators
from audit.core.types import Batch, ClassMask, Images
from audit.models.batching import is_out_of_memory
from audit.models.grey_gradient import quick_grey_gradients
from audit.models.replayed_steps import ExampleRows, ReplayedSteps
from audit.models.under_test import ModelUnderTest

State: TypeAlias = Mapping[str, Tensor]
"""What a search remembers of each example, first dimension the slot; "images" is what it would show next."""

SYNC_EVERY_ON_CPU = 1
SYNC_EVERY_ON_ACCELERATOR = 8
"""Steps between two looks at which examples are done: each look makes the host wait for the device."""


@dataclass(frozen=True)
class SearchState:
    """The examples in work, one a slot.

    Attributes:
        origin: Clean images, float32 (S, C, H, W).
        goal: The predictions that count as misclassified, bool (S, classes).
        generators: One random generator an example.
        age: Steps taken so far, int64 (S,).
        state: What the search remembers of each.
    """

    origin: Images
    goal: ClassMask
    generators: Generators
    age: Tensor
    state: State

    def __len__(self) -> int:
        return self.origin.shape[0]

    @property
    def images(self) -> Images:
        """The images to be shown to the model next."""
        return self.state["images"]

    def select(self, index: Tensor) -> SearchState:
        """The slots at `index`.

        Args:
            index: Positions, int64.
        """
        return SearchState(
            self.origin[index],
            self.goal[index],
            self.generators.select(index),
            self.age[index],
            {name: tensor[index] for name, tensor in self.state.items()},
        )


class StepResult(NamedTuple):
    """What one step did.

    Attributes:
        images: What the model was asked about, float32 (S, C, H, W).
        broken: Whether it was misclassified, bool (S,).
        state: What to go on from.
        hopeless: Whose search ends here, before its last step, bool (S,).
    """

    images: Images
    broken: Tensor
    state: State
    hopeless: Tensor | None = None


SearchStart: TypeAlias = Callable[[Images, ClassMask, Generators], State]
Step: TypeAlias = Callable[[SearchState], StepResult]

_recordings: WeakKeyDictionary[Step, dict[int, ReplayedSteps]] = WeakKeyDictionary()
"""By step and number of steps: restarts and targets of one attack share a step, and its recordings end with it."""


def run_search(
    model: ModelUnderTest,
    batch: Batch,
    generators: Generators,
    *,
    start: SearchStart,
    step: Step,
    steps: int,
    initial_state: State | None = None,
    sync_every: int | None = None,
) -> Images:
    """The first image of each example that is misclassified, else the one that would follow after `steps` steps.

    Args:
        model: The model under attack.
        batch: N examples: images float32 (N, C, H, W) in [0, 1], labels, and which predictions count as misclassified.
        generators: One random generator an example.
        start: Makes the state of new examples from their images, goals and generators.
        step: Asks the model once and moves on.
        steps: Steps an example takes at most.
        initial_state: Joins each example's state at its start, one row an example of the batch; a step carries on
            what it still needs.
        sync_every: Steps between two looks at what is finished, 1 on a CPU and 8 elsewhere by default; the answer
            is the same.

    Returns:
        Float32 (N, C, H, W), on the batch's device.
    """
    on_cpu = model.device.type == "cpu"
    every = sync_every or (SYNC_EVERY_ON_CPU if on_cpu else SYNC_EVERY_ON_ACCELERATOR)
    window = _Window(model, batch, generators, start, initial_state or {})
    with quick_grey_gradients(model.net):
        while window.refill():
            window.advance(step, steps, every)
            window.release()
    return window.answers


class _InWork(NamedTuple):
    """What moves from step to step.

    Attributes:
        slots: The examples in work.
        result: The answer of those that are solved or exhausted, float32 (S, C, H, W).
        ended: Which those are, bool (S,); they keep their answer until they are released.
    """

    slots: SearchState
    result: Images
    ended: Tensor

    def rows(self) -> dict[str, Tensor]:
        """All of it by name."""
        slots = self.slots
        fixed = {"origin": slots.origin, "goal": slots.goal, "keys": slots.generators.keys, "age": slots.age}
        state = {f"{_STATE}{name}": tensor for name, tensor in slots.state.items()}
        return {**fixed, "result": self.result, "ended": self.ended, **state}

    @classmethod
    def of(cls, rows: ExampleRows) -> _InWork:
        """What `rows` gave."""
        state = {name.removeprefix(_STATE): tensor for name, tensor in rows.items() if name.startswith(_STATE)}
        generators = Generators(rows["keys"])
        slots = SearchState(rows["origin"], rows["goal"], generators, rows["age"], state)
        return cls(slots, rows["result"], rows["ended"])


_STATE = "state: "


class _Window:
    def __init__(
        self, model: ModelUnderTest, batch: Batch, generators: Generators, start: SearchStart, initial_state: State
    ) -> None:
        self.model, self.batch, self.generators = model, batch, generators
        self.start, self.initial_state = start, initial_state
        self.goal = batch.target_mask(len(model.classes))
        self.answers = batch.images.detach().clone()
        self.next = 0
        self.slots: SearchState | None = None
        self.example = torch.zeros(0, dtype=torch.int64, device=model.device)
        self.result = torch.zeros(0, *batch.images.shape[1:], device=model.device)
        self.ended = torch.zeros(0, dtype=torch.bool, device=model.device)

    def refill(self) -> bool:
        """Give free slots to the examples next in line; False when none is in work any more."""
        free_slots = self.model.layout.batch_size - len(self.example)
        stop = min(len(self.batch), self.next + free_slots)
        if stop > self.next:
            self._admit(slice(self.next, stop))
            self.next = stop
        return len(self.example) > 0

    def advance(self, step: Step, steps: int, times: int) -> None:
        """Some steps of every slot."""
        work, layout = _InWork(self._slots(), self.result, self.ended), self.model.layout
        if layout.replayed:
            moved = partial(_moved, self.model, step, steps)
            rows = _recorded(self.model, step, steps).advance(moved, work.rows(), times, most=layout.replayed)
            work = _InWork.of(rows)
        else:
            for _ in range(times):
                work = _advanced(self.model, step, steps, work)
        self.slots, self.result, self.ended = work

    def release(self) -> None:
        """Write the answers of finished examples and keep the others."""
        slots = self._slots()
        count = int(self.ended.sum())  # the only wait for the device
        if count == 0:
            return
        finished, remaining = self.ended.to(torch.uint8).argsort(stable=True, descending=True).tensor_split((count,))
        device = self.answers.device
        self.answers[self.example[finished].to(device)] = self.result[finished].to(device)
        self.slots = slots.select(remaining)
        self.example, self.result, self.ended = self.example[remaining], self.result[remaining], self.ended[remaining]

    def _admit(self, rows: slice) -> None:
        device, index = self.model.device, torch.arange(rows.start, rows.stop, device=self.model.device)
        origin = self.batch.images[rows].to(device, torch.float32, copy=True)
        goal = self.goal[rows].to(device)
        generators = Generators(self.generators.keys[rows].to(device))
        age = torch.zeros(len(index), dtype=torch.int64, device=device)
        state = {name: values[rows].to(device) for name, values in self.initial_state.items()}
        fresh = SearchState(origin, goal, generators, age, {**state, **self.start(origin, goal, generators)})
        self.slots = fresh if self.slots is None or not len(self.slots) else _joined(self.slots, fresh)
        self.example = torch.cat([self.example, index])
        self.result = torch.cat([self.result, fresh.images])
        self.ended = torch.cat([self.ended, torch.zeros(len(index), dtype=torch.bool, device=device)])

    def _slots(self) -> SearchState:
        if self.slots is None:
            raise AuditError("The active set was stepped before it was filled.")
        return self.slots


def _recorded(model: ModelUnderTest, step: Step, steps: int) -> ReplayedSteps:
    try:
        return _recordings.setdefault(step, {}).setdefault(steps, ReplayedSteps(model))
    except TypeError:  # a callable of a plugin that has no hash or takes no weak reference
        return ReplayedSteps(model)


def _moved(model: ModelUnderTest, step: Step, steps: int, rows: ExampleRows) -> ExampleRows:
    return _advanced(model, step, steps, _InWork.of(rows)).rows()


def _advanced(model: ModelUnderTest, step: Step, steps: int, work: _InWork) -> _InWork:
    """One step of every slot. What is solved or exhausted keeps its answer until it is released."""
    slots, result, ended = work
    move = _step(model, step, slots)
    at_work = ~ended & (slots.age < steps)
    newly = at_work & move.broken
    given_up = slots.age + 1 == steps if move.hopeless is None else (slots.age + 1 == steps) | move.hopeless
    last = at_work & ~move.broken & given_up
    result = torch.where(_wide(newly), move.images, result)
    result = torch.where(_wide(last), move.state["images"], result)
    return _InWork(replace(slots, age=slots.age + 1, state=move.state), result, ended | newly | last)


def _step(model: ModelUnderTest, step: Step, slots: SearchState) -> StepResult:
    """A step of some slots; half of them at a time where memory runs out for what the search remembers of each."""
    try:
        return step(slots)
    except RuntimeError as fault:
        if model.layout.whole or len(slots) == 1 or not is_out_of_memory(fault):
            raise
    if len(slots) <= model.layout.batch_size:
        model.layout.halve()
    index = torch.arange(len(slots), device=slots.age.device)
    return _joined_results(*(_step(model, step, slots.select(part)) for part in index.tensor_split(2)))


def _joined(first: SearchState, second: SearchState) -> SearchState:
    return SearchState(
        torch.cat([first.origin, second.origin]),
        torch.cat([first.goal, second.goal]),
        Generators(torch.cat([first.generators.keys, second.generators.keys])),
        torch.cat([first.age, second.age]),
        {name: torch.cat([tensor, second.state[name]]) for name, tensor in first.state.items()},
    )


def _joined_results(first: StepResult, second: StepResult) -> StepResult:
    hopeless = (first.hopeless, second.hopeless)
    return StepResult(
        torch.cat([first.images, second.images]),
        torch.cat([first.broken, second.broken]),
        {name: torch.cat([tensor, second.state[name]]) for name, tensor in first.state.items()},
        None if hopeless[0] is None or hopeless[1] is None else torch.cat([hopeless[0], hopeless[1]]),
    )


def _wide(flags: Tensor) -> Tensor:
    return flags.view(-1, 1, 1, 1)
