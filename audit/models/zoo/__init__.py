"""Architectures that ship, one file a family."""
