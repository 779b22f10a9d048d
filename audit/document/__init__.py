"""The parts of the audit document: rows, pictures, charts, texts."""
