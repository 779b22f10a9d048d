"""Measures of models, attacks and attribution maps: functions of tensors or arrays, one value an image if they can."""
