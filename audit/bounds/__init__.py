"""Bounds that hold for every input of a region: intervals, linear relaxation, branch and bound."""
