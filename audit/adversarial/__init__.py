"""What runs and judges attacks: the active set, batteries, the verifier, and the controls beside them."""
