"""Starting files that `bench new` copies; each runs unchanged."""
