"""What a pod's containers are made with: environment, security, network files, users, in the runtime's terms."""
