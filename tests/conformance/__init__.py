"""What Kubernetes' conformance suite demands, against a control plane with controllers."""
