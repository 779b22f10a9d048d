"""A finished run as its readers see it: queries over its evidence, and the checks that are run on it."""
