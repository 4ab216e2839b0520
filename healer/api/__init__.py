"""The HTTP door. Importing this package is cheap; FastAPI comes with `healer.api.app` only."""
