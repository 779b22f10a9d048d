"""Data: what a data set is, the formats it is read from, and the order in which it is audited."""
