"""Bootstrap of a cluster: certificates and keys, kubeconfigs, and later the phases of `kubeadm init` and `join`."""
