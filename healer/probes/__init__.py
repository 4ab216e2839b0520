"""How a component is looked at."""
