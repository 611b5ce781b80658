"""``mqmha demo`` runs the whole system on synthetic voices, or on a small corpus of your own, in minutes."""

import functools
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import jax
import numpy as np
from jaxtyping import Float32

from data_prep.build_shards import build_shards
from data_prep.corpora import CORPORA
from data_prep.manifest import Recording
from data_prep.ordered_map import num_cores
from data_prep.pieces import fingerprint
from data_prep.trials import make_trials, write_trials
from mqmha_jax.config import Config
from mqmha_jax.config_io import load_config
from mqmha_jax.data.metadata import shard_metadata
from mqmha_jax.data.shard_reader import FbankShards, open_shards
from mqmha_jax.errors import UserError, count_noun
from mqmha_jax.evaluation.embeddings.embed import Embedder, embed
from mqmha_jax.evaluation.embeddings.selection import select_utterances
from mqmha_jax.evaluation.embeddings.training_mean import compute_training_mean
from mqmha_jax.evaluation.evaluate_lists import evaluate_run
from mqmha_jax.evaluation.metrics.measure_list import Scores, evaluate_list
from mqmha_jax.evaluation.report.tables import format_tables, write_evaluation
from mqmha_jax.evaluation.scoring.cosine import cosine_scores
from mqmha_jax.evaluation.scoring.units import centre
from mqmha_jax.models.speaker_net import build_speaker_net
from mqmha_jax.runs.state import initial_network
from mqmha_jax.train.loop import train
from mqmha_jax.types import Trials

# The synthetic corpus is enough for minutes of training; the three parts have different speakers.
_SPEAKERS = {"train": 200, "dev": 20, "eval": 40}
_SESSIONS, _UTTERANCES, _SECONDS = 3, 4, (2.0, 4.0)

# Number of speakers held out for each list from a user's own audio: a tenth, but at least two.
_HELD_OUT_AT_LEAST, _HELD_OUT_SHARE = 2, 0.1


def run_demo(workdir: Path, *, audio: Path | None, seed: int, overrides: Sequence[str], progress: bool = True) -> bool:
    """Prepares shards, trains, evaluates speakers outside the training data, and says what to do next.

    A second call keeps existing files and resumes.

    Args:
      workdir: work directory of the run; its folder ``data`` receives the data.
      audio: a folder ``speaker/**/*`` or a CSV list with columns path and speaker; None: synthetic voices.
      seed: seed of voices, split and training.
      overrides: ``section.option=value`` changes to ``configs/demo.py``.
      progress: show progress bars.

    Returns:
      Whether it came to its end; False if a signal stopped the training.

    Raises:
      UserError: the audio cannot be used, or the work directory holds another run or other data.
    """
    started = time.perf_counter()
    kind = f"speech from {audio}" if audio else "synthetic voices (made by this program; nobody's real voice)"
    data = workdir / "data"
    where = [f"data.train={data / 'train'}", f"data.dev={data / 'dev'}", f"data.dev_trials={data / 'dev.trials'}"]
    config = load_config("demo", [f"train.seed={seed}", *where, *overrides])

    click.echo(f"1. Shards: {kind}")
    _prepare(workdir, config, audio, seed, progress)
    shards = {name: open_shards(data / name) for name in _SPEAKERS}
    for name, part in shards.items():
        minutes = part.num_frames.sum() * config.fbank.frame_shift_ms / 60_000
        click.echo(f"   {name}: {len(part.speakers)} speakers, {len(part)} utterances, {minutes:.0f} minutes")

    click.echo(f"2. Training: {config.train.steps} steps on {jax.device_count()} x {jax.devices()[0].device_kind}")
    result = train(config, workdir, progress=progress)
    if not result.finished:
        click.echo(result.sentence())
        return False

    click.echo("3. Evaluation: speakers outside the training set")
    evaluation = evaluate_run(
        workdir, data=[data / "eval"], lists=[data / "eval.trials"], keep=True, progress=progress, say=click.echo
    )
    trained = evaluation.lists[0]
    systems = {"trained": trained.systems[0].scores, "untrained": _score_untrained(config, shards, trained.trials)}
    both = evaluate_list(
        "unseen speakers",
        trained.trials,
        {name: Scores(scores) for name, scores in systems.items()},
        known=shard_metadata(shards["eval"]),
    )
    title = f"{kind.split(' (')[0]}, step {result.step}"
    write_evaluation(workdir / "evaluation", evaluation._replace(lists=(both,)), title=title)
    click.echo(format_tables([both]))
    _say_what_next(workdir, kind, time.perf_counter() - started)
    return True


def _prepare(workdir: Path, config: Config, audio: Path | None, seed: int, progress: bool) -> None:
    """Makes the shards and lists that are missing; those that exist must be of the same recordings and split."""
    data = workdir / "data"
    # The folder counts, not what it is called from the current directory.
    corpus = "synthetic voices" if audio is None else os.path.abspath(audio)
    parts = _synthetic(seed) if audio is None else _split(_own_recordings(audio), seed, trained=config.loss.top_k + 1)
    asked = {name: _describe_part(corpus, name, seed, recordings) for name, recordings in parts.items()}
    existing = [name for name in parts if (data / name).exists()]
    for name in existing:
        _require_same_part(workdir, data / name, asked[name])
    if (data / "eval.trials").exists():  # it comes last, so all data is complete
        return
    for name, recordings in parts.items():
        if name not in existing:
            build_shards(
                recordings,
                data / name,
                spec=config.fbank,
                provenance=asked[name],
                num_workers=num_cores(),
                max_rejected=len(recordings) // 10,
                progress=progress,
            )
    for name in ("dev", "eval"):
        shards = open_shards(data / name)
        speakers = [shards.speakers[i] for i in shards.speaker]
        utt2spk = dict(zip(shards.utterances, speakers, strict=True))
        write_trials(data / f"{name}.trials", make_trials(utt2spk, _sessions(shards), seed=seed))


def _describe_part(corpus: str, name: str, seed: int, recordings: Sequence[Recording]) -> dict[str, Any]:
    return {
        "corpus": corpus,
        "part": name,
        "seed": seed,
        "speakers": len({recording.speaker for recording in recordings}),
        "recordings": len(recordings),
        "fingerprint": fingerprint(recordings)[:12],
    }


def _require_same_part(workdir: Path, directory: Path, asked: Mapping[str, Any]) -> None:
    """Refuses shards of an earlier call with other voices or another split, in which a speaker may change sides."""
    found = open_shards(directory).provenance
    if found != asked:
        holds, wanted = (", ".join(f"{key} {value}" for key, value in one.items()) for one in (found, asked))
        raise UserError(
            f"{directory} holds other recordings than this demo asks for. It holds: {holds}. Asked for: {wanted}. Give "
            f"another --workdir, or remove {workdir} to start again."
        )


def _synthetic(seed: int) -> dict[str, list[Recording]]:
    """Makes the recordings of the three parts; they have different speakers of one population."""
    make = functools.partial(
        CORPORA["synthetic"],
        sessions_per_speaker=_SESSIONS,
        utterances_per_session=_UTTERANCES,
        seconds=_SECONDS,
        voice_seed=seed,
    )
    firsts = np.cumsum([0, *_SPEAKERS.values()])
    return {
        name: make(num_speakers=count, first_speaker=int(first))
        for (name, count), first in zip(_SPEAKERS.items(), firsts, strict=False)
    }


def _own_recordings(audio: Path) -> list[Recording]:
    if not audio.exists():
        raise UserError(
            f"--audio {audio}: no such folder or file. Give a folder with one folder of audio files per speaker, or a "
            "CSV list with the columns path and speaker."
        )
    audio = Path(os.path.abspath(audio))
    return CORPORA["folder"](audio) if audio.is_dir() else CORPORA["csv"](audio)


def _split(recordings: list[Recording], seed: int, *, trained: int) -> dict[str, list[Recording]]:
    """Holds out speakers for the two lists and leaves at least ``trained`` for training, which the penalty needs."""
    speakers = sorted({recording.speaker for recording in recordings})
    held_out = max(_HELD_OUT_AT_LEAST, round(_HELD_OUT_SHARE * len(speakers)))
    needed = 2 * _HELD_OUT_AT_LEAST + trained
    if len(speakers) < needed:
        raise UserError(
            f"The corpus has {count_noun(len(speakers), 'speaker')}; the demo needs at least {needed}, because it "
            "holds some out for the dev list and the evaluation. Add speakers; each needs a folder, or a name in "
            "the CSV."
        )
    order = np.random.default_rng(seed).permutation(len(speakers))
    part_of = dict.fromkeys(speakers, "train")
    part_of |= {speakers[i]: "dev" for i in order[:held_out]}
    part_of |= {speakers[i]: "eval" for i in order[held_out : 2 * held_out]}
    return {name: [r for r in recordings if part_of[r.speaker] == name] for name in _SPEAKERS}


def _sessions(shards: FbankShards) -> dict[str, str] | None:
    """Returns the session of each utterance, from a column or the folder between speaker and file, if there is one."""
    if "session" in shards.attributes:
        named_sessions: Sequence[str] = [str(session) for session in shards.attributes["session"]]
    else:
        named_sessions = ["/".join(utterance.split("/")[1:-1]) for utterance in shards.utterances]
    by_speaker: dict[int, set[str]] = {}
    for speaker, session in zip(shards.speaker, named_sessions, strict=True):
        by_speaker.setdefault(int(speaker), set()).add(session)
    if any(len(sessions) > 1 for sessions in by_speaker.values()):
        return dict(zip(shards.utterances, named_sessions, strict=True))
    return None


def _score_untrained(config: Config, shards: dict[str, FbankShards], trials: Trials) -> Float32[np.ndarray, " M"]:
    """Scores the trials in the same way with the initial network, the baseline that training must beat."""
    net = build_speaker_net(config.model)
    embedder = Embedder(net, initial_network(config, net))
    mean = compute_training_mean(embedder, shards["train"])
    source = select_utterances(shards["eval"], [*trials.enrol, *trials.test])
    return cosine_scores(centre(embed(embedder, source), mean), trials)


def _say_what_next(workdir: Path, kind: str, seconds: float) -> None:
    click.echo(
        f"\nDone in {seconds / 60:.1f} minutes, on {kind}.\n"
        f"  report      {workdir}/evaluation/report.html\n"
        f"  log         {workdir}/metrics.jsonl, {workdir}/tensorboard\n"
        "Next, after '. .venv/bin/activate' where make has made the environment:\n"
        f"  evaluate    mqmha evaluate {workdir} --data {workdir}/data/eval --trials {workdir}/data/eval.trials\n"
        f"  verify      mqmha verify {workdir} one.wav other.wav"
    )
