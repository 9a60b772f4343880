"""Other servers that take part in the API: their groups are passed on to them, and told of as if they were ours."""
