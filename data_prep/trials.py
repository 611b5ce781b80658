"""Trial lists for a corpus of your own: same-speaker pairs across sessions and different-speaker pairs, balanced."""

import os
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np

from mqmha_jax.errors import UserError
from mqmha_jax.types import Trials


def make_trials(
    utt2spk: Mapping[str, str], utt2session: Mapping[str, str] | None = None, *, per_speaker: int = 200, seed: int = 0
) -> Trials:
    """Draw trials, the same number per speaker where the speaker has as many pairs.

    Args:
      utt2spk: speaker of each utterance.
      utt2session: session of each utterance. Targets then pair different sessions; a speaker recorded in one
        session only gets none. None pairs any two utterances of a speaker.
      per_speaker: at most so many target and so many nontarget trials per (enrolled) speaker.
      seed: of the draw.

    Returns:
      Targets, then nontargets, without duplicates and without ``(b, a)`` beside ``(a, b)``.

    Raises:
      UserError: fewer than two speakers, or no speaker with two utterances to pair.
    """
    by_speaker: dict[str, list[str]] = {}
    for utterance, speaker in sorted(utt2spk.items()):
        by_speaker.setdefault(speaker, []).append(utterance)
    if len(by_speaker) < 2:
        raise UserError(f"A trial list needs at least two speakers; the data has {len(by_speaker)}.")
    rng = np.random.default_rng(seed)
    speakers = sorted(by_speaker)
    targets: list[tuple[str, str]] = []
    nontargets: dict[tuple[str, str], None] = {}
    for speaker in speakers:
        own = by_speaker[speaker]
        pairs = [(a, b) for a, b in combinations(own, 2) if utt2session is None or utt2session[a] != utt2session[b]]
        chosen = rng.permutation(len(pairs))[:per_speaker]
        targets += [pairs[i] for i in chosen]
        for _ in range(per_speaker):
            other = speakers[(speakers.index(speaker) + int(rng.integers(1, len(speakers)))) % len(speakers)]
            a, b = own[rng.integers(len(own))], by_speaker[other][rng.integers(len(by_speaker[other]))]
            nontargets[min(a, b), max(a, b)] = None
    if not targets:
        raise UserError(
            "No speaker has two utterances"
            + ("" if utt2session is None else " from different sessions")
            + ", so there is no target trial; add recordings, or leave the sessions out."
        )
    pairs = [*targets, *nontargets]
    return Trials(
        enrol=tuple(a for a, _ in pairs),
        test=tuple(b for _, b in pairs),
        target=np.arange(len(pairs)) < len(targets),
    )


def write_trials(path: Path, trials: Trials) -> None:
    """Write the list in VoxCeleb's form, ``1 enrol test`` for a target and ``0 enrol test`` for a nontarget."""
    lines: Sequence[str] = [
        f"{int(target)} {a} {b}\n" for a, b, target in zip(trials.enrol, trials.test, trials.target, strict=True)
    ]
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text("".join(lines))
    os.replace(temporary, path)
