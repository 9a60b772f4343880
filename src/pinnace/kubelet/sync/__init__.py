"""The sync loop: one worker a pod, what must change for it, and the doing of that."""
