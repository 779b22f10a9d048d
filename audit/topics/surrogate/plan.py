"""The cell that trains a surrogate."""

from __future__ import annotations

import math

from audit.core.types import PassCount
from audit.planning.builder import ModelRef, PlanBuilder
from audit.planning.plan import Slice, Task
from audit.planning.run_identity import RunIdentity
from audit.topics.other_threats import OtherThreatsConfig
from audit.topics.surrogate.facts import SurrogateSettings

MAX_TRAINING_EXAMPLES = 4000
"""Most images that a surrogate is trained on."""
EPOCHS = 8


def plan(builder: PlanBuilder, model: ModelRef) -> None:
    """A surrogate trained on training images, or on half of those of the other threats; none where none is needed.

    Args:
        builder: The plan so far.
        model: The model.
    """
    config, identity = builder.config.robustness, builder.identity
    other = builder.config.table(OtherThreatsConfig).examples
    if not other and not builder.battery.wants_surrogate:
        return
    elsewhere = identity.train_examples > 0
    images = min(other or config.examples, identity.test_examples)
    taught_on = Slice("train", 0, identity.train_examples) if elsewhere else Slice("test", 0, images)
    every = max(2, math.ceil(len(taught_on) / MAX_TRAINING_EXAMPLES))
    settings = SurrogateSettings(every=every, epochs=EPOCHS, elsewhere=elsewhere)
    builder.add("surrogate", "imitation", model, taught_on, settings=settings.dump())


def max_passes(task: Task, identity: RunIdentity) -> PassCount:
    """The epochs on the images it is taught on, their predictions, and those of as many others by both nets.

    Args:
        task: A cell of this topic.
        identity: Identities and sizes of the data and the model.
    """
    settings = SurrogateSettings.of(task.cell)
    taught = math.ceil(len(task.examples) / settings.every)
    share = taught / max(1, len(task.examples))
    return PassCount(math.ceil(share * (settings.epochs + 3)), math.ceil(share * settings.epochs))
