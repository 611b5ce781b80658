"""Enrolled speakers: who they are, and who of them a recording sounds like."""
