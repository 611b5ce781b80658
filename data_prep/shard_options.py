"""Options of a preparation that change its result."""

import dataclasses

from data_prep.versions import VersionPlan
from mqmha_jax.config import FbankSpec
from mqmha_jax.data.shard_coding import Coding


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShardOptions:
    """What to make of every recording.

    Attributes:
      spec: the filterbank.
      plan: versions of every recording, at the rate of ``spec``.
      coding: how frames are stored.
      timeout_seconds: a recording that takes longer, all versions together, is rejected.
      min_speech_seconds: a recording with less speech is rejected.
      max_clipped_share: a recording with a larger share of clipped samples is rejected.
    """

    spec: FbankSpec
    plan: VersionPlan
    coding: Coding
    timeout_seconds: float
    min_speech_seconds: float = 0.0
    max_clipped_share: float = 1.0


SHARD_MEGABYTES = 512.0
"""Nine hours of audio (float16, 80 bins): a kill costs minutes of work, and VoxCeleb2-dev becomes 280 files."""

TIMEOUT_SECONDS = 1800.0

MAX_REJECTED = 100
