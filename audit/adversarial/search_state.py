"""What a search remembers of the examples in work, one a slot, and what a step did to them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from audit.core.seeding import Generators
from audit.core.types import ClassMask, Images
from audit.models.replayed_steps import ExampleRows

State: TypeAlias = Mapping[str, Tensor]
"""What a search remembers of each example, first dimension the slot; "images" is what it would show next."""


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


class SlotsInWork(NamedTuple):
    """What moves from step to step of a search.

    Attributes:
        slots: The examples in work.
        result: The answer of those that are solved or exhausted, float32 (S, C, H, W).
        ended: Which those are, bool (S,); they keep their answer until they are released.
        solved: Which of them were found misclassified, bool (S,).
        limit: Steps that each takes at most, int64 (S,).
    """

    slots: SearchState
    result: Images
    ended: Tensor
    solved: Tensor
    limit: Tensor

    def rows(self) -> dict[str, Tensor]:
        """All of it by name."""
        slots = self.slots
        fixed = {"origin": slots.origin, "goal": slots.goal, "keys": slots.generators.keys, "age": slots.age}
        state = {f"{_STATE}{name}": tensor for name, tensor in slots.state.items()}
        work = {"result": self.result, "ended": self.ended, "solved": self.solved, "limit": self.limit}
        return {**fixed, **work, **state}

    @classmethod
    def of(cls, rows: ExampleRows) -> SlotsInWork:
        """What `rows` gave.

        Args:
            rows: By name.
        """
        state = {name.removeprefix(_STATE): tensor for name, tensor in rows.items() if name.startswith(_STATE)}
        generators = Generators(rows["keys"])
        slots = SearchState(rows["origin"], rows["goal"], generators, rows["age"], state)
        return cls(slots, rows["result"], rows["ended"], rows["solved"], rows["limit"])


_STATE = "state: "


def joined_slots(first: SearchState, second: SearchState) -> SearchState:
    """The slots of two states, one after the other.

    Args:
        first: Some slots.
        second: Others of the same search.
    """
    return SearchState(
        torch.cat([first.origin, second.origin]),
        torch.cat([first.goal, second.goal]),
        Generators(torch.cat([first.generators.keys, second.generators.keys])),
        torch.cat([first.age, second.age]),
        {name: torch.cat([tensor, second.state[name]]) for name, tensor in first.state.items()},
    )


def joined_results(first: StepResult, second: StepResult) -> StepResult:
    """What a step did to the slots of one and of the other.

    Args:
        first: What it did to some slots.
        second: What it did to others.
    """
    hopeless = (first.hopeless, second.hopeless)
    return StepResult(
        torch.cat([first.images, second.images]),
        torch.cat([first.broken, second.broken]),
        {name: torch.cat([tensor, second.state[name]]) for name, tensor in first.state.items()},
        None if hopeless[0] is None or hopeless[1] is None else torch.cat([hopeless[0], hopeless[1]]),
    )


def wide(flags: Tensor) -> Tensor:
    """Flags of slots as they broadcast over images, (S, 1, 1, 1).

    Args:
        flags: (S,).
    """
    return flags.view(-1, 1, 1, 1)
