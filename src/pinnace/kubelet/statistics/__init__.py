"""What the node and its pods use, as summaries, metrics and figures for eviction."""
