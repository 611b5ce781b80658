"""Offline jobs that turn a corpus of audio into a directory of fbank shards. Run ``mqmha prep --help``."""
