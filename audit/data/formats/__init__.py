"""Formats of data sets: functions registered with `@data_format`, and the archives and tables they read."""
