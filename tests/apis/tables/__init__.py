"""What the API makes of each kind, as tables: defaults, what is refused in which words, what may change, columns."""
