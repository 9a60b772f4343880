"""Probes of containers: when they run, how each kind is done, and what they said."""
