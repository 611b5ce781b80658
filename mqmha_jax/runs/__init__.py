"""What a run leaves on disk: its state, checkpoints, log and work directory."""
