"""Ways to show who one is beside certificates, static tokens and service account tokens.

https://kubernetes.io/docs/reference/access-authn-authz/authentication/.
"""
