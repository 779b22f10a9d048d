"""What every room needs: types, seeds, threat models, cells, evidence, notes, statistics, errors, the registry."""
