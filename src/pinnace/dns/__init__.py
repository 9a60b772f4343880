"""The cluster's DNS: names of Services, endpoints and pods, and everything else from the host's name servers."""
