"""From scores to error rates, with intervals over speakers."""
