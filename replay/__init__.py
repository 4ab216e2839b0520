"""Audit and time travel: reads the log, and holds nothing that could act."""
