"""A search for shortcuts: regions of the image that decide a class on their own."""

from pydantic import Field

from audit.config import ConfigTable
from audit.core.topic import Topic
from audit.topics.shortcuts.section import ShortcutRow


class ShortcutsConfig(ConfigTable):
    """The search for shortcuts."""

    examples: int = Field(0, ge=0, description="search this many images for places that decide a class")


TOPIC = Topic(
    name="shortcuts",
    section="explanations",
    order=460,
    studies={"shortcuts": "shortcuts.examples"},
    config=ShortcutsConfig,
    presets={"standard": {"examples": 1000}, "full": {"examples": 5000}},
    minimum={"shortcuts.examples": 50},
    document={"shortcuts": ShortcutRow},
    measures=True,
    former_keys={"explanations.shortcut_examples": "shortcuts.examples"},
)
