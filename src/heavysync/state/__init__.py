"""The state: what was seen and what is owed, in SQLite. The only place that knows SQL."""
