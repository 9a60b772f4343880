"""CPUs, memory and devices that belong together: who gets which, by the node's topology."""
