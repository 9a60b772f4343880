"""The kinds of the `networking.k8s.io` and `discovery.k8s.io` groups."""
