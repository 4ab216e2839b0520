"""Tells Guardian."""
