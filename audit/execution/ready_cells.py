"""The cells that could begin now, from whose either end one can be taken."""

from __future__ import annotations

import heapq
from typing import TypeAlias

Rank: TypeAlias = tuple[float, ...]


class ReadyCells:
    """Keys of cells in the order of their ranks. What was taken from one heap is passed over in the other."""

    def __init__(self) -> None:
        """Empty."""
        self._ascending: list[tuple[Rank, str]] = []
        self._descending: list[tuple[Rank, str]] = []
        self._waiting: set[str] = set()

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def add(self, key: str, rank: Rank) -> None:
        """Add a cell.

        Args:
            key: Its key, which was never added before.
            rank: What is least comes first; every cell has another.
        """
        self._waiting.add(key)
        heapq.heappush(self._ascending, (rank, key))
        heapq.heappush(self._descending, (tuple(-part for part in rank), key))

    @property
    def first_rank(self) -> Rank:
        """The least rank; there must be a cell."""
        while self._ascending[0][1] not in self._waiting:
            heapq.heappop(self._ascending)
        return self._ascending[0][0]

    def take(self, *, last: bool = False) -> str:
        """Take out the cell of the least rank; there must be one.

        Args:
            last: Whether to take that of the greatest instead.

        Returns:
            Its key.
        """
        heap = self._descending if last else self._ascending
        while (key := heapq.heappop(heap)[1]) not in self._waiting:
            pass
        self._waiting.remove(key)
        return key
