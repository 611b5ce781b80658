"""Reads ArrayRecord files that TensorFlow Datasets wrote, without TensorFlow.

TensorFlow Datasets itself cannot open a data set with an ``Audio`` feature if TensorFlow is not installed. Such a
feature stores a plain tensor or a whole audio file, which this module reads as such.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from array_record.python.array_record_data_source import ArrayRecordDataSource

from mqmha_jax.errors import UserError
from mqmha_jax.json_file import read_json

_CLASSES = "tensorflow_datasets.core.features"
_AUDIO = f"{_CLASSES}.audio_feature.Audio"
_TENSOR = f"{_CLASSES}.tensor_feature.Tensor"


class AudioFeature(NamedTuple):
    """An audio feature as the folder describes it.

    Attributes:
      name: of the feature.
      sample_rate_hz: of its samples; None: unknown.
      is_file: whether it stores audio files instead of samples.
    """

    name: str
    sample_rate_hz: int | None
    is_file: bool


class TfdsFolder:
    """A data set on disk; ``audio_features`` are its features with audio.

    Args:
      directory: with ``dataset_info.json`` and ``features.json``.

    Raises:
      UserError: a file is missing or damaged, or the records are not in ArrayRecord files.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        info = _read(directory / "dataset_info.json", ("name", "splits"))
        if info.get("fileFormat") != "array_record":
            raise UserError(
                f"{directory}: its records are in the format {info.get('fileFormat', 'tfrecord')!r}, which only "
                "TensorFlow reads. Convert them once on a machine that has it: python -m "
                "tensorflow_datasets.scripts.convert_format --out_file_format=array_record --root_data_dir="
                f"{directory}."
            )
        described = _read(directory / "features.json", ("featuresDict",))["featuresDict"]
        try:
            self._name = str(info["name"])
            lengths = {split["name"]: [int(n) for n in split.get("shardLengths", ())] for split in info["splits"]}
            self._features: dict[str, dict[str, Any]] = dict(described["features"])
            self.audio_features = tuple(
                AudioFeature(name, int(feature["audio"].get("sampleRate", 0)) or None, _is_file(feature))
                for name, feature in self._features.items()
                if _is_audio(feature)
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UserError(
                f"{directory}: dataset_info.json or features.json is not of the form that TensorFlow Datasets writes "
                f"({type(error).__name__}: {error}). {_ADVICE}"
            ) from error
        self.splits: dict[str, int] = {name: sum(of_split) for name, of_split in lengths.items() if of_split}
        self._num_files = {name: len(of_split) for name, of_split in lengths.items()}

    @property
    def features(self) -> tuple[str, ...]:
        """Names of all features."""
        return tuple(self._features)

    def examples(self, split: str, names: Sequence[str]) -> "Examples":
        """Opens random access to some features of the examples of a split."""
        files = sorted(self.directory.glob(f"{self._name}-{split}.array_record-*-of-{self._num_files[split]:05d}"))
        if len(files) != self._num_files[split]:
            raise UserError(
                f"{self.directory}: {len(files)} of {self._num_files[split]} files of the split {split!r} are there; "
                "copy or prepare the data set again."
            )
        examples = Examples(files, self._parser(names))
        if len(examples) != self.splits[split]:
            raise UserError(
                f"{self.directory}: {len(examples)} of {self.splits[split]} examples of the split {split!r} are there; "
                "copy or prepare the data set again."
            )
        return examples

    def _parser(self, names: Sequence[str]) -> Any:
        from tensorflow_datasets import features  # here: loading it takes a while

        described = {name: _describe_as_stored(self._features[name]) for name in names}
        parser = features.FeaturesDict.from_json(
            {"pythonClassName": f"{_CLASSES}.features_dict.FeaturesDict", "featuresDict": {"features": described}}
        )
        parser.load_metadata(self.directory)
        return parser


class Examples:
    """Some features of the examples of a split, by index."""

    def __init__(self, files: Sequence[Path], parser: Any) -> None:
        self._directory = files[0].parent
        self._parser = parser
        try:
            self._records = ArrayRecordDataSource([str(file) for file in files])
        except RuntimeError as error:
            raise UserError(
                f"{self._directory}: one of {', '.join(file.name for file in files)} is cut off or damaged; copy or "
                "prepare the data set again."
            ) from error

    def __len__(self) -> int:
        """How many examples."""
        return len(self._records)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Features by name, as stored; classes by their names.

        Raises:
          UserError: a file is damaged.
        """
        try:
            record = self._records[index]
        except RuntimeError as error:
            raise UserError(
                f"{self._directory}: example {index} cannot be read ({error}); copy or prepare the data set again."
            ) from error
        example = self._parser.deserialize_example_np(record)
        return {name: self._decode_class(name, value) for name, value in example.items()}

    def _decode_class(self, name: str, value: Any) -> Any:
        feature = self._parser[name]
        return feature.int2str(int(value)) if hasattr(feature, "int2str") else value


def _is_audio(feature: dict[str, Any]) -> bool:
    return feature["pythonClassName"] == _AUDIO


def _is_file(feature: dict[str, Any]) -> bool:
    return bool(feature["audio"].get("lazyDecode"))


def _describe_as_stored(feature: dict[str, Any]) -> dict[str, Any]:
    """Describes a feature as it is stored, because only TensorFlow can convert it further."""
    if not _is_audio(feature):
        return feature
    audio = feature["audio"]
    stored = {"dtype": "string"} if _is_file(feature) else {"dtype": audio["dtype"], "shape": audio["shape"]}
    return {"pythonClassName": _TENSOR, "tensor": {"encoding": audio.get("encoding", "none"), "shape": {}} | stored}


_ADVICE = "Copy or prepare the data set again."


def _read(path: Path, fields: Sequence[str]) -> dict[str, Any]:
    content = read_json(path, dict, advice=f"It belongs to a data set of TensorFlow Datasets. {_ADVICE}")
    if missing := [name for name in fields if name not in content]:
        raise UserError(f"{path}: not a data set of TensorFlow Datasets; it has no {' and '.join(missing)}.")
    return content
