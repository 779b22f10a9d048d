"""What the study of influence measures besides its arrays."""

from __future__ import annotations

from audit.core.evidence import Facts


class InfluenceFacts(Facts):
    """Training images behind answers.

    Attributes:
        training: Training images that were looked at.
        exact: Whether the influence over the last layer has its closed form; without it only neighbours are named.
        copies: Slightly changed copies of test images that were put among the training images.
        copies_first: Those among them that came first behind the answer to their original.
        copies_nearest: Those that were nearest to it.
        shared_with_random_labels: The rank correlation of the influences with those under labels drawn at random, the
            mean over test images.
        names: By number of a training image, its name, of those named anywhere.
    """

    training: int
    exact: bool
    copies: int
    copies_first: int
    copies_nearest: int
    shared_with_random_labels: float = 0.0
    names: dict[str, str]
