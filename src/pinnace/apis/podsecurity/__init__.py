"""The Pod Security Standards: what a pod may ask of its node, by level and by version of Kubernetes."""
