"""Clusters of ordinary users: all of a cluster runs in user namespaces, in which its user is root.

`keeper` makes a profile's namespaces and stays outside of them, `init` is the first process inside, `entering` brings
the commands in. To everything else it is a machine of its own on which it has root's powers.
"""
