"""Offline jobs: a corpus of audio becomes a directory of fbank shards. Run ``python -m data_prep --help``."""
