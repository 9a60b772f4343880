"""The kinds of the `batch` group."""
