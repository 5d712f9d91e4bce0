"""Built-in tasks, one file each, loaded as entry points."""
