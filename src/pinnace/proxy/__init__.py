"""Services on a node: nftables rules that lead cluster IPs, node ports and external addresses to endpoints."""
