"""Enrols speakers, and identifies the speaker of a recording among them."""
