"""Registry of tasks, methods, metrics and presets, and validation of what is registered."""
