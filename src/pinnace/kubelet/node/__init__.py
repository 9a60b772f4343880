"""The Node object: what the machine is and has, the kubelet's heartbeat, and the node's end."""
