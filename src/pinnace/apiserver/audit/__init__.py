"""The audit log: who asked for what, when, and what came of it.

https://kubernetes.io/docs/tasks/debug/debug-cluster/audit/.
"""
