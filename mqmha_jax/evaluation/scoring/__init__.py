"""From embeddings to scores: cosine, normalisation, enrolment, back-ends, calibration, decisions."""
