"""What the API is: one folder per group, one file per kind with its defaults, validation, columns and update rules."""
