"""Whether the node takes a pod, and who makes room for it."""
