"""The kubelet's own certificates: asked for with a bootstrap token, and anew before they end.

`requests` words what is asked for, `store` keeps keys and certificates in the directory where the original has them,
`rotation` asks, waits and renews. Specified by
https://kubernetes.io/docs/reference/access-authn-authz/kubelet-tls-bootstrapping/.
"""
