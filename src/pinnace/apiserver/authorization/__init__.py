"""Authorizers that are told what to decide by files or by other servers.

https://kubernetes.io/docs/reference/access-authn-authz/authorization/.
"""
