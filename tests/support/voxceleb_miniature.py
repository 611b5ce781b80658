"""VoxCeleb in miniature, with synthetic voices, in the archives and lists of its owners; and a recipe for it."""

import io
import itertools
import tarfile
import zipfile
from pathlib import Path

import numpy as np

from data_prep.corpora.synthetic import SAMPLE_RATE_HZ, synthesise
from tests.support.tiny_audio import write_audio

TEST = [f"id10{270 + i}" for i in range(3)]  # speakers of VoxCeleb1's test part
DEV = [f"id10{1 + i:03}" for i in range(3)]
TRAINING = [f"id0{12 + i:04}" for i in range(8)]
VIDEOS = ("5r0dWxy17C8", "x6uYqmx31kE")
UTTERANCES = ("00001", "00002")

RECIPE = """\
from mqmha_jax.config import (
    AugmentConfig, Config, DataConfig, FbankSpec, LossConfig, ModelConfig, OptimizerConfig, TrainConfig, part,
)

CONFIG = Config(
    fbank=FbankSpec(num_mel_bins=16),
    data=DataConfig(crop_frames=60, batch_size=8),
    augment=AugmentConfig(context_frames=8),
    model=ModelConfig(
        encoder=part("tdnn", channels=16, final_channels=16, kernel_sizes=[3, 1], dilations=[1, 1]),
        pooling=part("mqmha", heads=2, queries=2),
        embedding_dim=8,
        normalize_pooled=True,
    ),
    loss=LossConfig(name="am", scale=10.0, sub_centres=2, top_k=2, margin_end=0.5),
    optimizer=OptimizerConfig(name="adamw", learning_rate=0.02, final_learning_rate=1e-3, warmup=0.1),
    train=TrainConfig(steps=12, log_every=4, evaluate_every=6, checkpoint_every=4, keep_checkpoints=3),
)
"""
SECOND_STAGE = """\
import dataclasses
from pathlib import Path

from mqmha_jax.config_io import load_config

_BASE = load_config(Path(__file__).with_name("mini.py"))

CONFIG = dataclasses.replace(
    _BASE,
    data=dataclasses.replace(_BASE.data, original_speed_only=True, crop_frames=90),
    loss=dataclasses.replace(_BASE.loss, name="aam", margin=0.5, margin_end=0.0, top_k=0, penalty=0.0),
    train=dataclasses.replace(_BASE.train, steps=8),
)
"""


def write_miniature(folder: Path) -> Path:
    """Writes downloads and ``mini.py``, ``mini_lm.py``; returns the recipe's path.

    VoxCeleb2's dev part in three parts of m4a files, VoxCeleb1's in two parts of wav files and its test part whole, the
    three lists, the tables of speakers, MUSAN as an archive and RIRS_NOISES as an archive.
    """
    downloads = folder / "downloads"
    downloads.mkdir(parents=True)
    voices = {name: number for number, name in enumerate([*TRAINING, *DEV, *TEST])}
    _write_zip(downloads / "vox2_dev_aac", "dev/aac", TRAINING, voices, ".m4a", parts=3, work=folder)
    _write_zip(downloads / "vox1_dev_wav", "wav", DEV, voices, ".wav", parts=2, work=folder)
    _write_zip(downloads / "vox1_test_wav", "wav", TEST, voices, ".wav", parts=1, work=folder)
    for name, speakers in (("veri_test2", TEST), ("list_test_all2", DEV + TEST), ("list_test_hard2", DEV + TEST[:2])):
        (downloads / f"{name}.txt").write_text(_trials(speakers))
    genders = {name: "mf"[number % 2] for number, name in enumerate(DEV + TEST)}
    rows = [f"{name}\tname\t{gender}\tUK\t{'test' if name in TEST else 'dev'}" for name, gender in genders.items()]
    (downloads / "vox1_meta.csv").write_text(
        "\n".join(["VoxCeleb1 ID\tVGGFace1 ID\tGender\tNationality\tSet", *rows, ""])
    )
    rows = [f"{name} ,name ,m ,dev" for name in TRAINING]
    (downloads / "vox2_meta.csv").write_text("\n".join(["VoxCeleb2 ID ,VGGFace2 ID ,Gender ,Set", *rows, ""]))
    _write_noises(downloads)
    (folder / "mini.py").write_text(RECIPE)
    (folder / "mini_lm.py").write_text(SECOND_STAGE)
    return folder / "mini.py"


def _utterances(speakers: list[str]) -> list[str]:
    return ["/".join(parts) for parts in itertools.product(speakers, VIDEOS, UTTERANCES)]


def _trials(speakers: list[str]) -> str:
    names = _utterances(speakers)
    pairs = itertools.combinations(names, 2)
    return "".join(f"{int(a.split('/')[0] == b.split('/')[0])} {a}.wav {b}.wav\n" for a, b in pairs)


def _write_zip(
    path: Path, top: str, speakers: list[str], voices: dict[str, int], ending: str, *, parts: int, work: Path
) -> None:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name in _utterances(speakers):
            speaker, video, number = name.split("/")
            made = synthesise(voices[speaker], VIDEOS.index(video), int(number), seed=0, seconds=(1.0, 1.5))
            file = write_audio(work / f"one{ending}", made.waveform.astype(np.float32), SAMPLE_RATE_HZ)
            archive.writestr(zipfile.ZipInfo(f"{top}/{name}{ending}"), file.read_bytes())
            file.unlink()
    whole = content.getvalue()
    if parts == 1:
        path.with_name(f"{path.name}.zip").write_bytes(whole)
        return
    size = -(-len(whole) // parts)
    for number in range(parts):
        path.with_name(f"{path.name}_parta{'abc'[number]}").write_bytes(whole[number * size : (number + 1) * size])


def _write_noises(downloads: Path) -> None:
    rng = np.random.default_rng(0)
    with tarfile.open(downloads / "musan.tar.gz", "w:gz") as archive:
        for kind, source in (("noise", "free-sound"), ("music", "fma"), ("speech", "librivox")):
            file = write_audio(downloads / f"{kind}.wav", rng.normal(0, 0.1, 24_000).astype(np.float32), SAMPLE_RATE_HZ)
            archive.add(file, f"musan/{kind}/{source}/{kind}-0.wav", filter=_without_time)
            file.unlink()
    with zipfile.ZipFile(downloads / "rirs_noises.zip", "w") as rooms:
        for number in range(2):
            response = rng.normal(0, 0.2, 3_000) * np.exp(-np.arange(3_000) / 600)
            response[0] = 1
            file = write_audio(downloads / "room.wav", (response / 3).astype(np.float32), SAMPLE_RATE_HZ)
            name = f"RIRS_NOISES/simulated_rirs/smallroom/Room00{number + 1}/Room00{number + 1}-00001.wav"
            rooms.writestr(zipfile.ZipInfo(name), file.read_bytes())
            file.unlink()


def _without_time(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.mtime = 0
    return member
