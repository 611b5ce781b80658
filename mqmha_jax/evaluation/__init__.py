"""From utterances to error rates: embed, score, measure, show."""
