"""Systems with a fitted back-end: the cosine of whitened or LDA-reduced embeddings, and PLDA."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Float64

from mqmha_jax.errors import UserError
from mqmha_jax.evaluation.embeddings.sources import Labelled
from mqmha_jax.evaluation.scoring.cosine import cosine_scores
from mqmha_jax.evaluation.scoring.enrolment import enrolment_scores
from mqmha_jax.evaluation.scoring.linear_backend import AffineMap, fit_lda, fit_mean, fit_whitening
from mqmha_jax.evaluation.scoring.plda import Plda, fit_plda, plda_scores
from mqmha_jax.types import Embeddings, Trials

PLDA = "plda"


class BackendPlan(NamedTuple):
    """The parts of a back-end, fitted on labelled embeddings in this order.

    Attributes:
      fitted_on: shards, or embeddings where the source is a file; None: no back-end.
      whiten: kind of whitening, see ``fit_whitening``.
      lda: size to which LDA reduces the embeddings; None: no LDA.
      plda: also score by PLDA.
      per_speaker: maximum number of utterances of each speaker to fit on, evenly spaced.
      shrinkage: of the covariances of whitening and LDA, see ``fit_whitening``.
    """

    fitted_on: Path | None = None
    whiten: Literal["zca", "pca", "none"] = "none"
    lda: int | None = None
    plda: bool = False
    per_speaker: int = 20
    shrinkage: float = 0.0

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts in words."""
        whitening = () if self.whiten == "none" else (f"{self.whiten} whitening",)
        lda = () if self.lda is None else (f"LDA to {self.lda}",)
        return (*whitening, *lda, *(("PLDA",) if self.plda else ()))

    def check(self) -> None:
        """Refuses parts that do not go together.

        Raises:
          UserError: parts without data to fit them on, data without parts, or a shrinkage without whitening or LDA.
        """
        if self.parts and self.fitted_on is None:
            raise UserError(
                f"{' and '.join(self.parts)} must be fitted on utterances of known speakers; give them with --backend."
            )
        if self.fitted_on is not None and not self.parts:
            raise UserError(
                f"--backend {self.fitted_on} has nothing to fit; add --lda SIZE, --whiten zca (or pca) or --plda."
            )
        if self.shrinkage and self.whiten == "none" and self.lda is None:
            raise UserError(
                "--shrinkage changes the covariances of --whiten and --lda; add one of these, or leave it out."
            )


class Backend(NamedTuple):
    """A fitted back-end.

    Attributes:
      maps: applied one after the other; each result is scaled to unit length (without it LDA would undo whitening).
      cosine: name of the system that takes the cosine afterwards; None: no such system, the maps only centre.
      plda: fitted on the result of the maps; None: no PLDA.
      description: its parts and the data that it was fitted on, for reports.
    """

    maps: tuple[AffineMap, ...]
    cosine: str | None
    plda: Plda | None
    description: str

    def __call__(self, embeddings: Embeddings) -> Embeddings:
        """The embeddings after all maps, ``[N, P]`` at unit length."""
        vectors: Float[np.ndarray, "N P"] = embeddings.vectors
        for one in self.maps:
            vectors = _units(one(vectors))
        return Embeddings(embeddings.ids, vectors)

    def scores(
        self,
        embeddings: Embeddings,
        trials: Trials,
        models: Mapping[str, Sequence[str]] | None = None,
        average: Literal["embeddings", "scores"] = "embeddings",
    ) -> dict[str, Float[np.ndarray, " M"]]:
        """Scores of each system of the back-end.

        Args:
          embeddings: N utterances, vectors ``[N, E]`` from the network, not centred.
          trials: M trials.
          models: the utterances of each model that the enrolment sides name; None: they name utterances.
          average: what the cosine averages over a model's utterances; PLDA combines them by its own model.

        Returns:
          ``[M]`` by name.

        Raises:
          UserError: as ``cosine_scores`` and ``plda_scores``.
        """
        mapped = self(embeddings)
        systems: dict[str, Float[np.ndarray, " M"]] = {}
        if self.cosine is not None:
            systems[self.cosine] = (
                cosine_scores(mapped, trials)
                if models is None
                else enrolment_scores(mapped, trials, models, average=average)
            )
        if self.plda is not None:
            systems[PLDA] = plda_scores(self.plda, mapped, trials, models)
        return systems


def fit_backend(plan: BackendPlan, labelled: Labelled) -> Backend:
    """Fits each part on the output of the parts before it.

    Args:
      plan: the parts.
      labelled: N embeddings ``[N, E]`` and their speakers.

    Raises:
      UserError: the data do not allow a part, see ``fit_whitening``, ``fit_lda`` and ``fit_plda``.
    """
    vectors, speaker = labelled.embeddings.vectors, np.array(labelled.speaker)
    fits: dict[str, Callable[[Float[np.ndarray, "N _"]], AffineMap]] = {}
    if plan.whiten != "none":
        fits["whitened"] = partial(fit_whitening, kind=plan.whiten, shrinkage=plan.shrinkage)
    if plan.lda is not None:
        fits["lda"] = partial(fit_lda, speaker=speaker, size=plan.lda, shrinkage=plan.shrinkage)
    maps = []
    for fit in fits.values() or [fit_mean]:
        maps.append(fit(vectors))
        vectors = _units(maps[-1](vectors))
    return Backend(
        maps=tuple(maps),
        cosine="-".join([*fits, "cosine"]) if fits else None,
        plda=fit_plda(vectors, speaker) if plan.plda else None,
        description=f"{', '.join(plan.parts)}; fitted on {len(speaker):,} utterances of {len({*labelled.speaker}):,} "
        f"speakers in {plan.fitted_on}, at most {plan.per_speaker} of each, evenly spaced"
        + (f"; shrinkage {plan.shrinkage:g}" if plan.shrinkage else ""),
    )


def _units(vectors: Float64[np.ndarray, "N P"]) -> Float64[np.ndarray, "N P"]:
    # PLDA is fitted in double precision. An embedding that equals the mean stays zero.
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.finfo(np.float64).tiny)
