"""The API `metrics.k8s.io`: every kubelet is asked what is used, and the API server is told."""
