"""Files that survive a kill: the store of evidence, files of tensors, and checkpoints of unfinished work."""
