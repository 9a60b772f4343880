"""The Container Runtime Interface, and the runtimes behind it: the embedded engine, or any other by gRPC."""
