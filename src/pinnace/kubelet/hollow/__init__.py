"""Nodes without machines: each registers, keeps its lease and its conditions, and runs the pods bound to it in name.

Thousands live in one process, so that controllers, a scheduler or an operator can be tried at a size for which there
are no machines. To the API they are nodes like any other: what they write goes the way a kubelet's writes go.
"""
