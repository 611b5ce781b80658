"""A web page and a JSON API over a trained network: embed, verify, enrol, identify."""
