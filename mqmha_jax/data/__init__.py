"""Fbank shards (``shard_writer``, ``shard_reader``), batches (``train_pipeline``, ``eval_pipeline``) and ``lists``.

Nothing here imports JAX: these modules also run in data workers.
"""
