"""How embeddings become scores: the choices that a user has, and which of them exclude each other."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from mqmha_jax.errors import UserError
from mqmha_jax.evaluation.scoring.backend import BackendPlan

Models = Mapping[str, Sequence[str]]  # the utterances of each enrolled model


class Method(NamedTuple):
    """How embeddings become scores.

    Attributes:
      cohort: for adaptive s-norm: shards, or embeddings where the source is a file; None: no normalisation.
      top_n: number of nearest cohort members that normalise a score.
      use_mean: subtract the mean embedding of the training set (of the cohort, where the source is a file).
      calibrate: trial list to calibrate on; its speakers must be in no other list.
      quality: also calibrate on durations, norms and cohort scores.
      enrol_map: file ``model utterance ...``, see ``read_models``; None: enrolment sides name utterances.
      average: what is averaged over a model's utterances.
      backend: whitening, LDA and PLDA, fitted on utterances of known speakers.
    """

    cohort: Path | None = None
    top_n: int = 300
    use_mean: bool = True
    calibrate: Path | None = None
    quality: bool = False
    enrol_map: Path | None = None
    average: Literal["embeddings", "scores"] = "embeddings"
    backend: BackendPlan = BackendPlan()

    def check(self) -> None:
        """Refuses choices that exclude each other.

        Raises:
          UserError: means of scores with a cohort or with PLDA, quality measures of models or without calibration, a
            ``top_n`` below 2, or a back-end that ``BackendPlan.check`` refuses.
        """
        if self.enrol_map and self.average == "scores" and self.cohort:
            raise UserError("--average scores does not go with --as-norm; average the embeddings, or leave one out.")
        if self.enrol_map and self.average == "scores" and self.backend.plda:
            raise UserError(
                "--average scores does not go with --plda, which combines a model's utterances itself; leave one out."
            )
        if self.enrol_map and self.quality:
            raise UserError("--quality looks at single utterances and does not go with --enrol-map; leave one out.")
        if self.top_n < 2:
            raise UserError(f"--top-n is {self.top_n}; valid: 2 or more.")
        if self.quality and not self.calibrate:
            raise UserError("--quality is a way to calibrate; give the list to calibrate on with --calibrate FILE.")
        self.backend.check()


COSINE_ONLY = Method()
