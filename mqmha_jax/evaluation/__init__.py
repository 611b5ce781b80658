"""Turns utterances into error rates: embed, score, measure, report."""
