"""The cells of corruptions."""

from __future__ import annotations

import numpy as np

from audit.config import RunConfig
from audit.core.looks import mean_at
from audit.core.types import PassCount
from audit.planning.builder import EXAMPLES_PER_CELL, ModelRef, PlanBuilder, select_methods
from audit.planning.experience import Experience
from audit.planning.foreseen import ForeseenReading
from audit.planning.plan import Task
from audit.planning.run_identity import RunIdentity

USUAL_FALL = 0.05
"""The mean fall in accuracy over corruptions and severities, with a standard deviation over images of 2.4 times that:
as measured on Fashion-MNIST's `cnn-28`, standard (0.04) and hardened (0.06)."""


def plan(builder: PlanBuilder, model: ModelRef) -> None:
    """Each corruption at each severity, on growing numbers of images where the study may stop early.

    Args:
        builder: The plan so far.
        model: The model.
    """
    config = builder.config.corruptions
    for method in select_methods("corruption", config.names):
        for severity in (s for s in config.severities if s <= method.facts.get("severities", s)):
            for chunk in builder.growing_chunks("corruption", config.examples, 4 * EXAMPLES_PER_CELL):
                settings = {"severity": severity}
                builder.add("corruption", method.name, model, chunk, settings=settings, version=method.full_version)


def max_passes(task: Task, identity: RunIdentity) -> PassCount:
    """One forward per image.

    Args:
        task: A cell of this topic.
        identity: Identities and sizes of the data and the model.
    """
    return PassCount(1, 0)


def foreseen(task: Task, config: RunConfig, experience: Experience) -> ForeseenReading:
    """The mean fall in accuracy after the last image of a cell, were it the usual one.

    Args:
        task: A cell of this topic.
        config: The configuration of the run; its criteria hold the threshold.
        experience: Not asked: what is kept of cells does not tell how many images a corruption turned.
    """
    falls = np.where(np.arange(task.examples.stop) % 7 == 0, 7 * USUAL_FALL, 0.0)
    return ForeseenReading(mean_at("early", falls, (-1.0, 1.0)), config.criteria.corruption_drop)
