"""Containers' logs: files in the CRI's format, read as `kubectl logs` asks, rotated when large."""
