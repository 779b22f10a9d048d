"""Attacks on object detectors: one file each."""
