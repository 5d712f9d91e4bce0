"""The built-in presets, TOML files a user can copy."""
