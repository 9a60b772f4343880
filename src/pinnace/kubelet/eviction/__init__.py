"""Node-pressure eviction: pods are ended before a node runs out of memory, disk, inodes or processes.

What decides is pure: `thresholds` (when a resource is short), `ranking` (whose pod goes), `messages` (what it is told),
`storage` (who wrote more than allowed). `observations` reads the machine; `manager` does the rest. Specified by
https://kubernetes.io/docs/concepts/scheduling-eviction/node-pressure-eviction/.
"""
