"""The pure core: events, lifecycle, issue, component, health, routing, policy."""
