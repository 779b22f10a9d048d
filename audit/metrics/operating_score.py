"""The score from which detections are taken at their word: that of the best balance of precision and recall."""

from __future__ import annotations

import numpy as np

from audit.metrics.box_matching import BoxMatches


def best_f1_score(matches: BoxMatches) -> float:
    """The score at which detections of all classes together reach their highest F1, at overlap .5.

    F1 = 2 * right / (right + wrong + objects), over the detections that score at least that much.

    Args:
        matches: Of N images, with the size "all".

    Returns:
        In [0, 1]; .5 where no detection is right.
    """
    classes = matches.by_size["all"]
    scores = np.concatenate([np.zeros(0), *(some.scores for some in classes)])
    right = np.concatenate([np.zeros(0, np.bool_), *(some.right[0] for some in classes)])
    wrong = np.concatenate([np.zeros(0, np.bool_), *(some.wrong[0] for some in classes)])
    objects = sum(int(some.objects.sum()) for some in classes)
    if not right.any():
        return 0.5
    order = np.argsort(-scores, kind="stable")
    found, false = np.cumsum(right[order]), np.cumsum(wrong[order])
    f1 = 2 * found / (found + false + objects)
    last_of_score = np.append(np.diff(scores[order]) != 0, True)  # equal scores are taken together
    return float(scores[order][np.where(last_of_score, f1, -1.0).argmax()])
