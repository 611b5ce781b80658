"""How much a network's error rate suffers from codecs, noise, rooms and other conditions of the same trials."""
