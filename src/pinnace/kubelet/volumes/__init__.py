"""Volumes of pods: one file per kind of volume, all made below the pod's own directory."""
