"""Plugins of the kubelet: the sockets that they register with, and calls to the service behind one."""
