"""Each image of the gallery stands beside its own adversarial image and maps, whatever cells they come from."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from made_entries import accuracy_entry, entry, explanation_entries, pictures, results_of, robustness_entry
from made_run import made_facts

from audit.core.evidence import Evidence
from audit.planning.plan import Slice, Task
from audit.report.gallery import gallery


def halved(whole: tuple[Task, Evidence], count: int) -> list[tuple[Task, Evidence]]:
    """The same explanation as two cells, the later one first."""
    task, evidence = whole
    return [
        (
            replace(task, cell=replace(task.cell, examples=f"{part.start}"), examples=part),
            replace(evidence, arrays={name: array[part.start : part.stop] for name, array in evidence.arrays.items()}),
        )
        for part in (Slice("test", count // 2, count), Slice("test", 0, count // 2))
    ]


def test_cells_may_be_cut_and_ordered_in_any_way() -> None:
    images, correct = pictures(8), np.ones(40)
    about = made_facts(images)
    attacked = robustness_entry("standard", 0.05, images, correct)
    maps = [made for made in explanation_entries("standard", images) if made[1].arrays]
    whole = gallery(results_of(accuracy_entry("standard", 0.9), attacked, *maps), about)
    assert any(view.adversarial for item in whole for view in item.views)
    assert any(view.adversarial_maps for item in whole for view in item.views)

    task, evidence = attacked
    shuffled = np.array([5, 2, 7, 0, 1, 6, 3, 4])
    arrays = dict(evidence.arrays) | {
        "adversarial": evidence.arrays["adversarial"][shuffled],
        "adversarial_logits": evidence.arrays["adversarial_logits"][shuffled],
        "adversarial_positions": shuffled,
    }
    cut = [part for made in maps for part in halved(made, 8)]
    again = results_of(accuracy_entry("standard", 0.9), (task, replace(evidence, arrays=arrays)), *cut)
    assert gallery(again, about) == whole


def test_an_image_whose_adversarial_one_was_not_stored_shows_none() -> None:
    images = pictures(4)
    task, evidence = robustness_entry("standard", 0.01, images, np.ones(40))
    arrays = dict(evidence.arrays) | {
        "adversarial": evidence.arrays["adversarial"][:1],
        "adversarial_logits": evidence.arrays["adversarial_logits"][:1],
        "adversarial_positions": np.array([2]),
    }
    items = gallery(
        results_of(accuracy_entry("standard", 0.9), (task, replace(evidence, arrays=arrays))), made_facts(images)
    )
    assert [item.views[0].adversarial is not None for item in items] == [False, False, True, False]


def test_images_that_were_not_classified_are_left_out() -> None:
    images = pictures(4)
    later = entry(
        "accuracy",
        "standard",
        {"correct": np.ones(2)},
        start=2,
        arrays={"logits": np.eye(10, dtype=np.float32)[:2], "labels": np.array([0, 1])},
    )
    about = made_facts(images)
    assert [item.id for item in gallery(results_of(later), about)] == list(about.ids[2:4])
    assert gallery(results_of(), about) == []
