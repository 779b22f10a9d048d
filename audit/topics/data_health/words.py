"""What is said of parts, properties and symmetries."""

from __future__ import annotations

from audit.core.note import note

SYMMETRIES = (
    note("health_as_is", "as it is"),
    note("health_mirrored", "mirrored"),
    note("health_upside_down", "mirrored upside down"),
    note("health_half_turn", "turned by 180°"),
    note("health_transposed", "mirrored at the diagonal"),
    note("health_quarter_right", "turned by 90° clockwise"),
    note("health_quarter_left", "turned by 90° counter-clockwise"),
    note("health_transposed_other", "mirrored at the other diagonal"),
)
"""How a copy is turned into the image, by the numbers of `audit.data.health.symmetries`."""
PARTS = {"train": note("health_train", "training"), "test": note("health_test", "test")}
"""The parts of the data."""
PROPERTIES = {
    "size": note("health_size", "size"),
    "proportions": note("health_proportions", "proportions"),
    "colour": note("health_colour", "colour"),
}
"""The properties of image files."""
