"""From a configuration to the plan of a run: which cells, on which examples, in which order. Runs nothing."""

from audit.planning.fitting import Fit, fit
from audit.planning.forecast import CHEAPER, Forecast, forecast, most_passes
from audit.planning.make import Scope, make_plan
from audit.planning.subject import Subject

__all__ = ["CHEAPER", "Fit", "Forecast", "Scope", "Subject", "fit", "forecast", "make_plan", "most_passes"]
