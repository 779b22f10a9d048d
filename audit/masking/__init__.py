"""Images with parts removed: baselines, segments, and a queue that forwards each (image, mask) pair once."""
