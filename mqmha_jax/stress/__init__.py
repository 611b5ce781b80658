"""Measures how codecs, noise, rooms and other conditions change a network's error rate on the same trials."""
