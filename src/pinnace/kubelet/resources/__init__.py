"""CPU and memory of pods: their cgroups, what they were granted, and how they are resized while they run."""
