"""Turns an audio file into normalised filterbank frames.

``audio`` (NumPy only, so that data workers need no JAX), ``fbank`` and ``cmn`` (JAX).
"""
