"""Clients that others wrote, against a control plane with controllers."""
