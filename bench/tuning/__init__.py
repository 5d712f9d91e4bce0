"""The search of settings."""
