"""A small stack of real components, broken for real and healed before your eyes."""
