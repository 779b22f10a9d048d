"""Attributions of what an object detector finds: one file each."""
