"""Writes everything that an evaluation found as one HTML file that needs no network."""
