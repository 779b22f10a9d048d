"""From a configuration to the plan of a run: which cells, on which examples, in which order. It runs nothing."""
