"""Attacks, one file each, and the batteries that run them. An attack proposes; the verifier judges."""
