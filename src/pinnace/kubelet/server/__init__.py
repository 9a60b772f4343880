"""The node's HTTPS server, and who may ask it."""
