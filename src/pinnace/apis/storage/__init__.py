"""The kinds of the `storage.k8s.io` and `storagemigration.k8s.io` groups."""
