"""What a class goes by: concepts found in a layer without labels, and those that the user names."""

from pydantic import Field

from audit.config import ConfigTable
from audit.core.topic import Topic
from audit.topics.concepts.section import ConceptRow, UserConceptRow


class ConceptsConfig(ConfigTable):
    """Concepts that a class rests on."""

    examples: int = Field(80, ge=0, description="look for concepts in this many images, those of every class")
    classes: int = Field(10, ge=1, description="of this many classes at most, the first ones")
    count: int = Field(4, ge=1, le=50, description="concepts of a class")
    crops: int = Field(3, ge=1, le=20, description="crops along each side of an image")
    crop: float = Field(0.5, gt=0, le=1, description="side of a crop, as a share of the image's")
    points: int = Field(16, ge=4, description="points of the design behind each importance, a power of two")
    random: int = Field(20, ge=3, description="random sets that each concept is tested against")


TOPIC = Topic(
    name="concepts",
    section="explanations",
    order=395,
    priority=60,
    studies={"concepts": "concepts.examples, concepts.points, concepts.count"},
    config=ConceptsConfig,
    presets={
        "standard": {"examples": 320, "classes": 20, "points": 32, "random": 50},
        "full": {"examples": 1000, "classes": 100, "count": 10, "points": 64, "random": 100},
    },
    minimum={"concepts.examples": 40},
    document={"concepts": ConceptRow, "user_concepts": UserConceptRow},
)
