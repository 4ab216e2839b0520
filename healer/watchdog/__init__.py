"""Sees a component fail, and says with what evidence."""
