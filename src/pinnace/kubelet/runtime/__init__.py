"""What the container runtime says: events, what it holds, whether it can be relied on, what it should forget."""
