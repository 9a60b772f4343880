"""KubeletConfiguration: read from files, its fields and rules, and shown again at /configz."""
