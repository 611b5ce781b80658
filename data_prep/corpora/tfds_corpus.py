"""Reads any speech data set of TensorFlow Datasets with a speaker feature, without TensorFlow."""

import dataclasses
import functools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soxr
from jaxtyping import Float32

from data_prep.corpora.tfds_folder import AudioFeature, Examples, TfdsFolder
from data_prep.manifest import Recording
from mqmha_jax.errors import UserError
from mqmha_jax.features.audio import read_audio_bytes

SPEAKER_FEATURES = ("speaker", "speaker_id", "client_id")
UTTERANCE_FEATURES = ("utterance", "id")
_DOWNLOAD = (
    "Prepare it once on a machine with TensorFlow: tfds build --file_format=array_record; or give a folder with "
    "dataset_info.json."
)


@dataclasses.dataclass(frozen=True)
class TfdsExample:
    """The samples of one example, read when needed.

    Attributes:
      directory: of the data set.
      split: of the data set.
      index: of the example in the split.
      audio: feature with the samples, and their rate.
    """

    directory: str
    split: str
    index: int
    audio: AudioFeature

    def __str__(self) -> str:
        """Directory, number and split."""
        return f"{self.directory}: example {self.index} of {self.split}"

    def __call__(self, sample_rate_hz: int) -> Float32[np.ndarray, " n"]:
        """The samples; integers count as 16-bit samples, channels are averaged.

        Raises:
          UserError: there are no samples, they are integers of more than 16 bits, or as ``read_audio``.
        """
        name = str(self)
        stored = _examples(self.directory, self.split, self.audio.name)[self.index][self.audio.name]
        if self.audio.is_file:
            return read_audio_bytes(stored, name, sample_rate_hz)
        samples = np.asarray(stored)
        if not samples.size:
            raise UserError(f"{name}: holds no samples. Leave it out.")
        if np.issubdtype(samples.dtype, np.integer):
            if samples.min() < -(2**15) or samples.max() >= 2**15:
                raise UserError(
                    f"{name}: its samples are integers of more than 16 bits. Prepare the data set with floats."
                )
            samples = samples / 2**15
        if samples.ndim == 2:
            samples = samples.mean(axis=1)
        samples = samples.astype(np.float32)
        if not np.isfinite(samples).all():
            raise UserError(f"{name}: has samples that are NaN or infinite. Leave it out.")
        rate_hz = self.audio.sample_rate_hz
        return samples if rate_hz == sample_rate_hz else soxr.resample(samples, rate_hz, sample_rate_hz)


def tfds_recordings(
    data_set: str | Path,
    *,
    data_dir: str | Path | None = None,
    split: str = "train",
    audio: str | None = None,
    speaker: str | None = None,
    utterance: str | None = None,
    attribute: Sequence[str] = (),
    audio_rate_hz: int | None = None,
) -> list[Recording]:
    """A data set of TensorFlow Datasets in ArrayRecord files.

    TensorFlow itself is not needed. Listing the data set reads every record once.

    Args:
      data_set: a folder with ``dataset_info.json``, or a name such as "librispeech", a folder in ``--data-dir``.
      data_dir: folder of the data sets; None: $TFDS_DATA_DIR or ~/tensorflow_datasets.
      split: split of the data set.
      audio: feature with the audio; None: the only audio feature.
      speaker: feature with the speaker; None: the first of speaker, speaker_id, client_id.
      utterance: feature with the id; None: the first of utterance, id; or the split and a number.
      attribute: further feature to keep as an attribute; may be repeated.
      audio_rate_hz: sample rate, if the data set does not name it.

    Returns:
      Recordings in the order of the split.

    Raises:
      UserError: the data set or the split is missing or not in ArrayRecord files, has no such feature, or its sample
        rate is unknown.
    """
    folder = TfdsFolder(_folder(Path(data_set), data_dir))
    if not folder.splits.get(split):
        raise UserError(f"{folder.directory}: no examples in a split {split!r}; valid: {', '.join(folder.splits)}.")
    sound = _audio(folder, audio, audio_rate_hz)
    speaker = _choice(folder, "speaker", speaker, SPEAKER_FEATURES)
    if utterance is not None or any(name in folder.features for name in UTTERANCE_FEATURES):
        utterance = _choice(folder, "utterance", utterance, UTTERANCE_FEATURES)
    kept = [_choice(folder, "attribute", name, ()) for name in attribute]
    names = sorted({speaker, *kept, *([] if utterance is None else [utterance])})
    examples = folder.examples(split, names)
    recordings = []
    for index in range(len(examples)):
        texts = {name: _text(value) for name, value in examples[index].items()}
        recordings.append(
            Recording(
                utterance=f"{split}-{index:07d}" if utterance is None else texts[utterance],
                speaker=texts[speaker],
                source=TfdsExample(str(folder.directory), split, index, sound),
                attributes={name: texts[name] for name in kept},
            )
        )
    return recordings


@functools.lru_cache(maxsize=4)
def _examples(directory: str, split: str, audio: str) -> Examples:
    """Opened once in each process."""
    return TfdsFolder(Path(directory)).examples(split, [audio])


def _folder(data_set: Path, data_dir: str | Path | None) -> Path:
    if data_dir is None:
        data_dir = os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")
    for start in (data_set, Path(data_dir).expanduser() / data_set):
        found = sorted(path.parent for depth in ("", "*/", "*/*/") for path in start.glob(f"{depth}dataset_info.json"))
        if len(found) == 1:
            return found[0]
        if found:
            raise UserError(f"{start} holds several data sets: {', '.join(map(str, found))}. Give one of them.")
    raise UserError(f"No data set {data_set}: it is not a folder, and {data_dir} does not have it. {_DOWNLOAD}")


def _audio(folder: TfdsFolder, name: str | None, rate_hz: int | None) -> AudioFeature:
    if rate_hz is not None and rate_hz < 1:
        raise UserError(f"--audio-rate-hz {rate_hz}: a sample rate is at least 1 Hz.")
    known = {feature.name: feature for feature in folder.audio_features}
    name = _choice(folder, "audio", name, tuple(known) if len(known) == 1 else ())
    feature = known.get(name, AudioFeature(name, None, False))  # any tensor may hold samples
    feature = feature._replace(sample_rate_hz=rate_hz or feature.sample_rate_hz)
    if feature.sample_rate_hz is None and not feature.is_file:
        raise UserError(
            f"{folder.directory}: the sample rate of its feature {name!r} is unknown. Give it with --audio-rate-hz."
        )
    return feature


def _choice(folder: TfdsFolder, option: str, name: str | None, defaults: Sequence[str]) -> str:
    if name is None:
        name = next((default for default in defaults if default in folder.features), None)
    if name not in folder.features:
        what = f"which feature is the {option} is unknown" if name is None else f"there is no feature {name!r}"
        raise UserError(
            f"{folder.directory}: {what}. Give --{option} NAME, one of its features: {', '.join(folder.features)}."
        )
    return name


def _text(value: Any) -> str:
    return value.decode("utf-8", errors="replace") if isinstance(value, bytes) else str(value)
