"""Drivers of the Container Storage Interface on this node: who they are, and the calls to them."""
