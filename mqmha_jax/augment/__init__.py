"""Making the training data harder: ``waveform`` offline in NumPy, ``spec_augment`` inside the training step in JAX."""
