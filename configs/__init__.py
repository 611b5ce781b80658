"""Experiments, one file each: the paper, the published result of the nearest system, the exact command."""
