"""The network from filterbank to embedding, and the head that compares embeddings with speakers."""

from mqmha_jax.models.head import init_prototypes, nearest_cosines, unit_length
from mqmha_jax.models.speaker_net import SpeakerNet, build_speaker_net, fold_for_inference
