"""The control loops of Kubernetes: one file each, pure decisions first, then a thin `Controller` to carry them out."""
