"""The active set: a window of examples in work; a solved or exhausted one leaves at once, the next takes its slot.

A search is two functions on per-example state: `start` makes the state of new examples, `step` asks the model about one
image of each and moves on. Examples never mix, so the answer is that of a loop over examples, one at a time; only
floating-point rounding may differ. Steps may compute in less than float32; what they take for misclassified leaves when
the model says so in float32.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from weakref import WeakKeyDictionary

import torch

from audit.adversarial.search_state import (
    SearchStart,
    SearchState,
    SlotsInWork,
    State,
    Step,
    StepResult,
    joined_results,
    joined_slots,
    wide,
)
from audit.core.errors import AuditError
from audit.core.seeding import Generators
from audit.core.types import Batch, Images
from audit.models.batching import is_out_of_memory
from audit.models.grey_gradient import quick_grey_gradients
from audit.models.losses import is_adversarial_logits
from audit.models.replayed_steps import ExampleRows, ReplayedSteps
from audit.models.search_form import in_search_precision
from audit.models.under_test import ModelUnderTest

SYNC_EVERY_ON_CPU = 1
SYNC_EVERY_ON_ACCELERATOR = 8
"""Steps between two looks at which examples are done: each look makes the host wait for the device."""


_recordings: WeakKeyDictionary[Step, ReplayedSteps] = WeakKeyDictionary()
"""By step: restarts and targets of one attack share it, and its recordings end with it."""


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
    exact: bool = False,
) -> Images:
    """The first image of each example that is misclassified, else the one that would follow after `steps` steps.

    Where the layout of the model has a lower precision for searches, the first that float32 confirms.

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
        exact: Whether steps compute in float32 whatever the layout says, as those must whose state holds verdicts.

    Returns:
        Float32 (N, C, H, W), on the batch's device.
    """
    on_cpu = model.device.type == "cpu"
    every = sync_every or (SYNC_EVERY_ON_CPU if on_cpu else SYNC_EVERY_ON_ACCELERATOR)
    window = _Window(model, batch, generators, start, initial_state or {}, steps)
    with quick_grey_gradients(model.net):
        while window.refill():
            with nullcontext(False) if exact else in_search_precision(model) as lower:
                window.advance(step, every)
            if lower:
                window.confirm()
            window.release()
    return window.answers


class _Window:
    def __init__(
        self,
        model: ModelUnderTest,
        batch: Batch,
        generators: Generators,
        start: SearchStart,
        initial_state: State,
        steps: int,
    ) -> None:
        self.model, self.batch, self.generators = model, batch, generators
        self.start, self.initial_state, self.steps = start, initial_state, steps
        self.goal = batch.target_mask(len(model.classes))
        self.answers = batch.images.detach().clone()
        self.next = 0
        self.slots: SearchState | None = None
        self.example = torch.zeros(0, dtype=torch.int64, device=model.device)
        self.result = torch.zeros(0, *batch.images.shape[1:], device=model.device)
        self.ended = torch.zeros(0, dtype=torch.bool, device=model.device)
        self.solved = self.ended
        self.limit = torch.zeros(0, dtype=torch.int64, device=model.device)

    def refill(self) -> bool:
        """Give free slots to the examples next in line; False when none is in work any more."""
        free_slots = self.model.layout.batch_size - len(self.example)
        stop = min(len(self.batch), self.next + free_slots)
        if stop > self.next:
            self._admit(slice(self.next, stop))
            self.next = stop
        return len(self.example) > 0

    def advance(self, step: Step, times: int) -> None:
        """Some steps of every slot."""
        work = SlotsInWork(self._slots(), self.result, self.ended, self.solved, self.limit)
        if most := self.model.layout.replayed:
            moved = partial(_moved, self.model, step)
            rows = _recorded(self.model, step).advance(moved, work.rows(), times, most=most)
            work = SlotsInWork.of(rows)
        else:
            for _ in range(times):
                work = _advanced(self.model, step, work)
        self.slots, self.result, self.ended, self.solved, self.limit = work

    def confirm(self) -> None:
        """Ask in float32 about what was found misclassified, but for what ends anyway.

        Where it is not, the example goes on with a step less, so that no search asks more often than it may.
        """
        slots = self._slots()
        found = (self.solved & (slots.age < self.limit)).nonzero().flatten()
        if not len(found):
            return
        mistaken = found[~is_adversarial_logits(self.model.logits(self.result[found]), slots.goal[found])]
        self.limit[mistaken] -= 1
        self.solved[mistaken] = False
        self.ended[mistaken] = slots.age[mistaken] >= self.limit[mistaken]

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
        self.example, self.result = self.example[remaining], self.result[remaining]
        self.ended, self.solved, self.limit = self.ended[remaining], self.solved[remaining], self.limit[remaining]

    def _admit(self, rows: slice) -> None:
        device, index = self.model.device, torch.arange(rows.start, rows.stop, device=self.model.device)
        origin = self.batch.images[rows].to(device, torch.float32, copy=True)
        goal = self.goal[rows].to(device)
        generators = Generators(self.generators.keys[rows].to(device))
        age = torch.zeros(len(index), dtype=torch.int64, device=device)
        state = {name: values[rows].to(device) for name, values in self.initial_state.items()}
        fresh = SearchState(origin, goal, generators, age, {**state, **self.start(origin, goal, generators)})
        self.slots = fresh if self.slots is None or not len(self.slots) else joined_slots(self.slots, fresh)
        self.example = torch.cat([self.example, index])
        self.result = torch.cat([self.result, fresh.images])
        nothing = torch.zeros(len(index), dtype=torch.bool, device=device)
        self.ended, self.solved = torch.cat([self.ended, nothing]), torch.cat([self.solved, nothing])
        self.limit = torch.cat([self.limit, torch.full_like(index, self.steps)])

    def _slots(self) -> SearchState:
        if self.slots is None:
            raise AuditError("The active set was stepped before it was filled.")
        return self.slots


def _recorded(model: ModelUnderTest, step: Step) -> ReplayedSteps:
    try:
        return _recordings.setdefault(step, ReplayedSteps(model))
    except TypeError:  # a callable of a plugin that has no hash or takes no weak reference
        return ReplayedSteps(model)


def _moved(model: ModelUnderTest, step: Step, rows: ExampleRows) -> ExampleRows:
    return _advanced(model, step, SlotsInWork.of(rows)).rows()


def _advanced(model: ModelUnderTest, step: Step, work: SlotsInWork) -> SlotsInWork:
    """One step of every slot. What is solved or exhausted keeps its answer until it is released."""
    slots, result, ended, solved, limit = work
    move = _step(model, step, slots)
    at_work = ~ended & (slots.age < limit)
    newly = at_work & move.broken
    given_up = slots.age + 1 == limit if move.hopeless is None else (slots.age + 1 == limit) | move.hopeless
    last = at_work & ~move.broken & given_up
    result = torch.where(wide(newly), move.images, result)
    result = torch.where(wide(last), move.state["images"], result)
    moved = replace(slots, age=slots.age + 1, state=move.state)
    return SlotsInWork(moved, result, ended | newly | last, solved | newly, limit)


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
    return joined_results(*(_step(model, step, slots.select(part)) for part in index.tensor_split(2)))
