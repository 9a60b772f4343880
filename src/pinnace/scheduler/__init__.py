"""The scheduler: which node each pod runs on.

Data and decisions are plain functions and classes without I/O; `scheduler.py` is the async shell around them.
"""
