"""How many clusters of features are sought."""

from __future__ import annotations

CLUSTER_IMAGES = 60
"""Images of a cluster, on average."""
MOST_CLUSTERS = 24


def cluster_count(images: int) -> int:
    """The number of clusters.

    Args:
        images: How many images there are.
    """
    return max(1, min(MOST_CLUSTERS, images // CLUSTER_IMAGES))
