"""The flags of kube-controller-manager by what they are about: each module has `options`, and `read` what they said."""
