"""Experiments, one file each, with the paper, the published result of the nearest system and the exact command."""
