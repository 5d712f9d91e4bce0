"""Built-in methods, one file each, loaded as entry points."""
