"""From a configuration to the plan of a run: which cells, on which examples, in which order. Runs nothing."""

from audit.planning.make import Scope, make_plan
from audit.planning.subject import Subject

__all__ = ["Scope", "Subject", "make_plan"]
