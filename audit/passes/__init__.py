"""The model under load: losses towards a violation, the active set, the layout probe, the verifier."""
