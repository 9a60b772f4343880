"""The scheduler's plugins, one file each."""
