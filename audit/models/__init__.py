"""Models: what is under test, how one is loaded, and the zoo."""
