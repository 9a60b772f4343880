"""Machines that nodes run on, one driver a file: so far the host itself."""
