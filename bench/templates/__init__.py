"""Starting files that `bench new` writes; each runs as it is."""
