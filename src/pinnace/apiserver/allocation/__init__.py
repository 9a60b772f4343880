"""Cluster IPs and node ports: who has which, on record for every server over one store."""
