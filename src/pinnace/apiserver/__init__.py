"""The API server: HTTP in, Kubernetes' REST API out, state in a `Store`."""
