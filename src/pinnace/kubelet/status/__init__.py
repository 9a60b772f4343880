"""Pods' statuses: worked out from what they ask for and what runs, and written to the API server."""
