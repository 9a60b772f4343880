"""API Priority and Fairness: requests in flows, flows in levels, seats for what a level may do at a time."""
