"""Speaker verification in JAX: MQMHA pooling and the inter-topK penalty (arXiv 2110.05042)."""

__version__ = "0.1.0"
