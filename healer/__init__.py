"""Sees a service on a port fail, heals it, verifies the cure, and remembers every step."""
