"""What the audit document and every part of it are made of: rows, pictures, charts, words."""
