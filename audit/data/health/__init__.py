"""Measures of a data set before any model: copies, mistaken labels, blank and unusual images, shift, kinds of file."""
