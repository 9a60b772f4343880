"""The one way to the API: REST client, informers, work queue, event recorder, leader election, kubeconfig."""
