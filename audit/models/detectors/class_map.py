"""Which class of the data each output of a detector stands for: its outputs may have a background, gaps and others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from audit.core.errors import ModelError


@dataclass(frozen=True)
class ClassMap:
    """The class of each of a detector's outputs.

    Attributes:
        outputs: Position among the classes of the data that each output stands for; None for one that stands for none
            of them, such as the background or a class that the data lacks.
    """

    outputs: tuple[int | None, ...]

    @classmethod
    def of(cls, outputs: Sequence[int | None], classes: Sequence[str]) -> ClassMap:
        """A map on which every class of the data has one output.

        Args:
            outputs: Position among the classes, or None, of each output.
            classes: The classes of the data.

        Raises:
            ModelError: A class has no output, or several.
        """
        named = [position for position in outputs if position is not None]
        missing = [name for position, name in enumerate(classes) if position not in named]
        if missing:
            names = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
            raise ModelError(
                f"The detector has no output for {len(missing)} of the data's {len(classes)} classes ({names}): give "
                "the model of these classes, or data of its classes."
            )
        if len(set(named)) < len(named):
            twice = next(classes[position] for position in named if named.count(position) > 1)
            raise ModelError(f"The detector has several outputs for the class {twice!r}, where one was expected.")
        return cls(tuple(outputs))

    @classmethod
    def after_background(cls, classes: int) -> ClassMap:
        """The background first, then the classes in their order, as torchvision has them.

        Args:
            classes: The number of classes.
        """
        return cls((None, *range(classes)))

    def positions(self, own: Tensor) -> Tensor:
        """The classes of the detector's labels.

        Args:
            own: The detector's labels, int64 (M,).

        Returns:
            Positions among the classes of the data, int64 (M,); -1 for an output that stands for none of them.
        """
        table = [-1 if position is None else position for position in self.outputs]
        return torch.tensor(table, dtype=torch.int64, device=own.device)[own]

    def labels(self, positions: Tensor) -> Tensor:
        """The detector's labels of classes.

        Args:
            positions: Positions among the classes of the data, int64 (M,).
        """
        return self._inverse(positions.device)[positions]

    def scores(self, own: Tensor) -> Tensor:
        """The scores of the data's classes.

        Args:
            own: The score of each output, float (K, outputs).

        Returns:
            Float (K, classes).
        """
        return own.index_select(-1, self._inverse(own.device))

    def _inverse(self, device: torch.device) -> Tensor:
        pairs = sorted((position, own) for own, position in enumerate(self.outputs) if position is not None)
        return torch.tensor([own for _, own in pairs], dtype=torch.int64, device=device)
