"""Built-in wrappers."""
