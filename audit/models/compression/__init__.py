"""Smaller models: pruning, clipping, int8 inference, and what they cost."""
