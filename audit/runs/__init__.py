"""From a configuration to a run folder: load data and model, plan, execute, write the report."""
