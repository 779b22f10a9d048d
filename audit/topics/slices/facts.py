"""What the study of slices says beside its arrays, and how its methods are called."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from audit.core.evidence import Facts

ATTRIBUTES, CLUSTERS = "attributes", "clusters"
"""The methods of the study: what is said of each image; and which images a model finds alike."""
COLUMN = "column/"
"""Prefix of the arrays of the data's own columns, before their number: values, or positions in the groups."""


class ColumnFacts(BaseModel):
    """A column of the data's table.

    Attributes:
        name: Its name.
        groups: The texts in it, which its array counts from 0; empty for a column of numbers.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    groups: tuple[str, ...] = ()


class SlicesFacts(Facts):
    """What the arrays of a cell hold.

    Attributes:
        attributes: The names of the columns of the array `attributes`.
        columns: The columns of the data's table.
        classes: Names of the classes.
        layer: The layer whose inputs are the features; empty where they are the logits, or where it has no name.
    """

    attributes: tuple[str, ...] = ()
    columns: tuple[ColumnFacts, ...] = ()
    classes: tuple[str, ...] = ()
    layer: str = ""
