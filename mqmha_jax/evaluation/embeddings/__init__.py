"""Where embeddings come from: the network of a run, or a file."""
