"""The revisioned key-value contract under the API server, and the backends that keep it."""
