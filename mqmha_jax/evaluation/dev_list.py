"""The dev list during training: the one part of evaluation that the training loop calls."""

import warnings
from collections.abc import Mapping
from typing import Any, NamedTuple

from flax import linen as nn
from jax.sharding import Mesh

from mqmha_jax.config import DataConfig
from mqmha_jax.config_io import require_same_fbank
from mqmha_jax.data.ids import hash_names
from mqmha_jax.data.joined_shards import TrainingShards
from mqmha_jax.data.lists import check_trials, read_trials
from mqmha_jax.data.shard_reader import open_shards
from mqmha_jax.errors import UserError, count_noun
from mqmha_jax.evaluation.embeddings.embed import Embedder, embed
from mqmha_jax.evaluation.embeddings.selection import select_utterances
from mqmha_jax.evaluation.embeddings.training_mean import compute_training_mean
from mqmha_jax.evaluation.metrics.detection import detection_curve
from mqmha_jax.evaluation.metrics.measure_list import P_TARGETS
from mqmha_jax.evaluation.scoring.cosine import cosine_scores
from mqmha_jax.evaluation.scoring.units import centre


class DevResult(NamedTuple):
    """Error rates on the dev list.

    Attributes:
      eer: equal error rate, a fraction.
      min_dcf: normalised minimum detection cost of each prior in ``P_TARGETS``.
    """

    eer: float
    min_dcf: Mapping[float, float]


def open_dev_list(data: DataConfig, training: TrainingShards) -> "DevList | None":
    """The dev list of a configuration; None if it has none.

    Args:
      data, training: as for ``DevList``.

    Raises:
      UserError: as ``DevList``, or there is a list without shards.
    """
    if data.dev:
        return DevList(data, training)
    if data.dev_trials:
        raise UserError(
            f"data.dev_trials={data.dev_trials} has no shards: set data.dev to the shards with its utterances, or "
            "leave both out."
        )
    return None


class DevList:
    """Trials of speakers that are not in the training set, scored as ``mqmha evaluate`` scores them."""

    def __init__(self, data: DataConfig, training: TrainingShards) -> None:
        """Opens and checks the list, so that mistakes show before the first step.

        Args:
          data: its ``dev`` and ``dev_trials`` name the shards and the list.
          training: the training shards, for the mean embedding.

        Raises:
          UserError: shards or list are missing or do not fit together. Speakers shared with the training, and oddities
            of the list, are warnings.
        """
        if not data.dev_trials:
            raise UserError(f"data.dev={data.dev} has no list: set data.dev_trials to a file of trials over it.")
        shards = open_shards(data.dev)
        require_same_fbank(training.spec, shards.spec, f"The dev shards in {data.dev}")
        if shared := sorted(set(training.speakers) & set(shards.speakers)):
            warnings.warn(
                f"The dev shards share {count_noun(len(shared), 'speaker')} with the training set, e.g. {shared[0]!r}: "
                "the dev EER looks better than it is.",
                stacklevel=2,
            )
        self._trials = read_trials(data.dev_trials)
        for note in check_trials(self._trials, shards.utterances, name=data.dev_trials):
            warnings.warn(note, stacklevel=2)
        self._source = select_utterances(shards, [*self._trials.enrol, *self._trials.test])
        self._training = training
        self._fingerprint = shards.identity()["fingerprint"]

    def identity(self) -> str:
        """A fingerprint of the trials and the shards: EERs are compared only if it is the same."""
        labels = map(str, self._trials.target.astype(int))
        return hash_names([self._fingerprint, *self._trials.enrol, *self._trials.test, *labels])

    def evaluate(self, net: nn.Module, variables: Mapping[str, Any], mesh: Mesh) -> DevResult:
        """Error rates of the network on the list, the same on every host.

        Args:
          net: a ``SpeakerNet``.
          variables: its ``params`` and ``batch_stats``.
          mesh: of the devices that hold them; all of these embed.
        """
        embedder = Embedder(net, variables, mesh)
        mean = compute_training_mean(embedder, self._training)
        scores = cosine_scores(centre(embed(embedder, self._source), mean), self._trials)
        curve = detection_curve(scores, self._trials.target)
        return DevResult(curve.equal_error_rate(), {p_target: curve.min_dcf(p_target) for p_target in P_TARGETS})
