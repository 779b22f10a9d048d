"""Topics, one folder a question of the audit: each declares what it plans, measures, concludes and shows."""
