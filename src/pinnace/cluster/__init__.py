"""Local clusters in minikube's manner: profiles, the start, stop and delete flows, and the processes behind them."""
