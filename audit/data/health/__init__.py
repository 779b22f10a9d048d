"""Measures of a data set before any model: copies, mistaken labels, blank and unusual images, shift, kinds of file.

Own code where a package was measured and fell short on the Fashion-MNIST sample (`tests/benchmarks/data_health.py` and
samples/benchmarks.md): dataeval 1.1, with all its hashes, finds 68% of copies in JPEG and names 935 other pairs,
and brings numba, polars and lightgbm; cleanlab's count of wrong labels is 2.3 times the true one where classes overlap.
Its order of suspicion is as good as ours, and the tests hold ours to it.
"""
