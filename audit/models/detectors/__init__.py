"""Object detectors: one contract, and an adapter for each kind of detector."""
