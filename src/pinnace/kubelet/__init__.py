"""The node agent: pod sources, pod workers, probes, status, volumes and the node's HTTP server."""
