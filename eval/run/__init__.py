"""A run: settings that are checked once, a folder, and one kind of work on groups of photos."""
