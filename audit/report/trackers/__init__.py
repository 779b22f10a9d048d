"""Experiment trackers: a finished run logged from its document alone, one file for each way to log."""
