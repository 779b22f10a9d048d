"""A whole run: from a configuration to a folder with a document and a report."""
