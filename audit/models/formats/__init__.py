"""Formats of model files, one file each: functions registered with `@model_format`."""
