"""Helpers that several tests share: tiny corpora, real second processes, slow references, broken disks."""
