"""Measures how far the step's noise and reverberation, on mel powers, are from the same on the waveform.

The script mixes the same speech, noise, room and ratio twice: as waveforms, whose filterbank it computes, and as the
training step does, from the filterbanks of both (float16, as stored). It reports the difference of the two in natural
logarithms (0.23 is a decibel) after subtracting each utterance's mean, as the network sees it, and for comparison the
difference from the clean speech.

    python benchmarks/augmentation_error.py SPEECH --figure docs/augmentation_error.png

SPEECH holds ``lists/train.csv`` (columns path, seconds, ...), ``noise/`` and ``rir/``. Each condition adds a line to
``benchmarks/results/augmentation_error.jsonl``.
"""

import csv
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import click
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from record import keep

from data_prep.corpora.folder import audio_files
from data_prep.versions import BABBLE_VOICES
from mqmha_jax.augment import mel_power, waveform
from mqmha_jax.augment.room_decay import room_decays
from mqmha_jax.config import FbankSpec
from mqmha_jax.data.noise_and_rooms import SILENCE
from mqmha_jax.features.audio import read_audio
from mqmha_jax.features.fbank import extract_fbank

SPEC = FbankSpec(use_energy=True)
RATE_HZ = SPEC.sample_rate_hz
SNRS_DB = (0.0, 5.0, 10.0, 15.0, 20.0)
CONTEXTS = (10, 20, 40, 80)
SECONDS = (2.5, 6.0)
"""Shorter utterances are left out, longer ones are cut."""

Errors = dict[tuple[str, str], list[np.ndarray]]


@click.command(context_settings={"show_default": True})
@click.argument("speech", type=click.Path(path_type=Path, exists=True))
@click.option("--utterances", default=100, help="Number of utterances.")
@click.option("--figure", type=click.Path(path_type=Path), help="Draw the errors here.")
def main(speech: Path, utterances: int, figure: Path | None) -> None:
    """Measure, print and record."""
    rng = np.random.default_rng(0)
    voices = _voices(speech, rng)
    noises = audio_files(speech / "noise")
    responses = [read_audio(path, RATE_HZ) for path in audio_files(speech / "rir")]
    kinds: dict[str, Callable[[int], Sequence[np.ndarray]]] = {
        "noise": lambda n: [np.resize(read_audio(noises[rng.integers(len(noises))], RATE_HZ), n)],
        "music": lambda n: [chords(n, rng)],
        "babble": lambda n: [np.resize(next(voices), n) for _ in range(rng.integers(*BABBLE_VOICES, endpoint=True))],
    }
    mixed: Errors = {}
    untouched: Errors = {}
    for _ in range(utterances):
        samples = next(voices)
        clean = store_as_shards_do(samples)
        for kind, draw in kinds.items():
            sounds = [sound for sound in draw(len(samples)) if sound.any()]
            for snr_db in SNRS_DB:
                true, ours = with_noises(samples, clean, sounds, snr_db)
                mixed.setdefault((kind, f"{snr_db:g} dB"), []).append(centred(ours) - centred(true))
                untouched.setdefault((kind, f"{snr_db:g} dB"), []).append(centred(clean) - centred(true))
        room = responses[rng.integers(len(responses))]
        true = extract_fbank(waveform.reverberate(samples, room), SPEC)
        for context in CONTEXTS:
            ours = in_room(clean, room, context)
            mixed.setdefault(("reverb", f"{context} frames"), []).append(centred(ours) - centred(true))
            untouched.setdefault(("reverb", f"{context} frames"), []).append(centred(clean) - centred(true))
    report(mixed, untouched)
    if figure:
        draw_errors(mixed, untouched, figure)


def _voices(speech: Path, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Yields utterances in random order, endlessly."""
    with (speech / "lists" / "train.csv").open(newline="") as file:
        paths = [speech / row["path"] for row in csv.DictReader(file) if float(row["seconds"]) >= SECONDS[0]]
    while True:
        for index in rng.permutation(len(paths)):
            yield read_audio(paths[index], RATE_HZ)[: int(SECONDS[1] * RATE_HZ)]


def chords(num: int, rng: np.random.Generator) -> np.ndarray:
    """Makes music-like sound: three notes with eight harmonics each, and a new chord every half second."""
    time = np.arange(RATE_HZ // 2) / RATE_HZ
    pieces = []
    for _ in range(-(-num // len(time))):
        pitches = 110 * 2 ** (rng.integers(0, 36, 3) / 12)
        harmonics = np.outer(pitches, np.arange(1, 9)).ravel()
        phases = rng.uniform(0, 2 * np.pi, len(harmonics))
        loudness = np.tile(1 / np.arange(1, 9), 3)
        pieces.append(np.exp(-2 * time) * (loudness @ np.sin(2 * np.pi * np.outer(harmonics, time) + phases[:, None])))
    return 0.1 * np.concatenate(pieces)[:num].astype(np.float32)


def store_as_shards_do(samples: np.ndarray) -> np.ndarray:
    """Computes the filterbank as shards store it."""
    return extract_fbank(samples, SPEC).astype(np.float16)


def with_noises(
    samples: np.ndarray, clean: np.ndarray, sounds: Sequence[np.ndarray], snr_db: float
) -> tuple[np.ndarray, np.ndarray]:
    """Makes both mixtures; each sound is as long as the speech and has the whole ratio alone."""
    gains = [np.sqrt(np.mean(samples**2) / np.mean(sound**2) / 10 ** (snr_db / 10)) for sound in sounds]
    true = samples + sum(gain * sound for gain, sound in zip(gains, sounds, strict=True))
    levels = [
        store_as_shards_do(sound) + np.float32(2 * np.log(gain)) for gain, sound in zip(gains, sounds, strict=True)
    ]
    noise = np.logaddexp.reduce(levels).astype(np.float16)
    ours = mel_power.add_noise(jnp.asarray(clean[None]), jnp.asarray(noise[None]))[0]
    return extract_fbank(true.astype(np.float32), SPEC), np.asarray(ours)


def in_room(clean: np.ndarray, response: np.ndarray, context: int) -> np.ndarray:
    """Reverberates a whole utterance as the step does."""
    before = np.full((context, clean.shape[1]), SILENCE)
    decay = room_decays([response], SPEC, num_frames=context + 1).astype(np.float16)
    fbank = np.concatenate([before, clean])[None]
    return np.asarray(mel_power.reverberate(jnp.asarray(fbank), jnp.asarray(decay))[0])


def centred(fbank: np.ndarray) -> np.ndarray:
    """Subtracts the mean over time, as ``subtract_mean`` does."""
    return fbank.astype(np.float32) - fbank.astype(np.float32).mean(axis=0, keepdims=True)


def report(mixed: Errors, untouched: Errors) -> None:
    """Prints a table and appends it to the results."""
    click.echo("condition             rms   5 %    95 %   energy rms   worst band rms   rms if nothing were added")
    for (kind, setting), parts in mixed.items():
        errors = np.concatenate(parts)
        by_band = rms(errors, axis=0)
        low, high = np.percentile(errors, (5, 95))
        nothing = rms(np.concatenate(untouched[kind, setting]))
        click.echo(
            f"{kind:7} {setting:12} {rms(errors):6.3f} {low:6.3f} {high:6.3f} {by_band[0]:10.3f} "
            f"{by_band[1:].max():12.3f} {nothing:16.3f}"
        )
        record = {
            "kind": kind,
            "setting": setting,
            "utterances": len(parts),
            "rms": float(rms(errors)),
            "percentile_5": float(low),
            "percentile_95": float(high),
            "rms_nothing_added": float(nothing),
            "rms_by_band": [round(float(value), 4) for value in by_band],
        }
        keep("augmentation_error", record)


def rms(errors: np.ndarray, axis: int | None = None) -> np.ndarray:
    """Computes the root mean square."""
    return np.sqrt(np.mean(np.square(errors, dtype=np.float64), axis=axis))


def draw_errors(mixed: Errors, untouched: Errors, path: Path) -> None:
    """Draws the error by band for each kind: that of mixing on powers, and that of the clean speech."""
    shown = [("noise", "5 dB"), ("music", "10 dB"), ("babble", "15 dB"), ("reverb", "40 frames")]
    figure, axes = plt.subplots(1, len(shown), figsize=(13, 3.4), sharey=True, layout="constrained")
    bands = np.arange(1, SPEC.num_features)
    for axis, key in zip(axes, shown, strict=True):
        errors = np.concatenate(mixed[key])[:, 1:]
        low, high = np.percentile(errors, (5, 95), axis=0)
        axis.fill_between(bands, low, high, color="tab:blue", alpha=0.25, lw=0, label="5 to 95 % of the errors")
        axis.plot(bands, rms(errors, axis=0), color="tab:blue", label="rms error, mixed on powers")
        nothing = np.concatenate(untouched[key])[:, 1:]
        axis.plot(bands, rms(nothing, axis=0), color="tab:gray", ls="--", label="rms error, nothing added")
        axis.set(title=", ".join(key), xlabel="mel band")
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("log power after mean normalisation")
    axes[-1].legend(loc="upper right", fontsize=8)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
