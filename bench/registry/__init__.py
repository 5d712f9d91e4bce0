"""Names of tasks, methods, metrics and presets, and checks of what they name."""
