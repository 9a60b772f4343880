"""Devices of the node: plugins that offer them, who holds which, and what containers get with them."""
