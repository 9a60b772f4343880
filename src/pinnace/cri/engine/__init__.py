"""The embedded container engine: sandboxes, containers and images on Linux, without any other daemon."""
