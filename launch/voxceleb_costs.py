"""Estimates the cost of the stages of launch/voxceleb.py: arithmetic on counts, with the assumptions named here."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from stages import Cost

from data_prep.ordered_map import num_cores
from data_prep.zip_parts import list_zip
from mqmha_jax.config import Config, FbankSpec
from mqmha_jax.errors import UserError, unknown_name

BYTES_PER_WAV_SECOND = 32_000
"""16 bits at 16 kHz."""

SECONDS_PER_UTTERANCE = 7.8
"""Mean of VoxCeleb2 (arXiv 1806.05622); a compressed file does not tell its length before it is decoded."""

SPEAKERS = 5_994
"""Of VoxCeleb2's dev part."""

MUSAN_SECONDS = 109 * 3600
"""arXiv 1510.08484."""

UNPACKED_PER_SECOND = 100e6
"""Bytes per second that one process unpacks from and to one disk; assumed."""

PREPARED_PER_CORE = 900.0
"""Seconds of audio, counting copies, that one core prepares per second. docs/data.md measures 1,056 from m4a at three
speeds (352 without counting copies)."""

UTILISATION = 0.18
"""Share of the peak that a step reaches: MLPerf's ResNet-50 on an H100 (7,056 images/s). Assumed for all devices."""

CPU_CORE_FLOPS = 25e9
"""FLOP/s of one CPU core in training; two cores convolve forwards at 90 to 100e9 (docs/performance.md)."""

# bfloat16 FLOP/s of one device without sparsity, from the makers' data sheets.
PEAK_FLOPS = {
    "v4": 275e12,
    "v5e": 197e12,
    "v5p": 459e12,
    "v6e": 918e12,
    "V100": 125e12,
    "A100": 312e12,
    "H100": 989e12,
    "H200": 989e12,
}


class Devices(NamedTuple):
    """What trains.

    Attributes:
      kind: key of ``PEAK_FLOPS``, or "cpu".
      count: of chips or GPUs; of cores for "cpu".
    """

    kind: str
    count: int

    @property
    def flops(self) -> float:
        """FLOP/s that all of them sustain."""
        if self.kind == "cpu":
            return self.count * CPU_CORE_FLOPS
        return self.count * UTILISATION * PEAK_FLOPS[self.kind]

    @classmethod
    def parse(cls, text: str) -> "Devices":
        """``8xH100``, or ``cpu`` for the cores of this machine.

        Raises:
          UserError: the kind is unknown, or there is none of it.
        """
        if text == "cpu":
            return cls("cpu", num_cores())
        count, _, kind = text.rpartition("x")
        if kind not in PEAK_FLOPS or not (count or "1").isdigit():
            raise unknown_name("--devices", text, ["cpu", *(f"8x{name}" for name in PEAK_FLOPS)])
        if count and not int(count):
            raise UserError(f"--devices {text}: nothing trains without a device. Give at least 1x{kind}.")
        return cls(kind, int(count or 1))


def audio_seconds(files: Iterable[tuple[str, int]]) -> float:
    """Estimates the length of audio files.

    Args:
      files: name and size in bytes of each.
    """
    total = 0.0
    for name, size in files:
        if name.endswith(".wav"):
            total += size / BYTES_PER_WAV_SECOND
        elif name.endswith((".m4a", ".aac", ".mp4")):
            total += SECONDS_PER_UTTERANCE
    return total


def list_source(parts: Sequence[Path]) -> list[tuple[str, int]]:
    """Name and size of each file in a folder, or in a zip archive in parts."""
    if len(parts) == 1 and parts[0].is_dir():
        return [(path.name, path.stat().st_size) for path in parts[0].rglob("*") if path.is_file()]
    return [(member.filename, member.file_size) for member in list_zip(parts)]


def unpacking(num_bytes: float) -> Cost:
    """Of unpacking archives with so many bytes of content."""
    return Cost(num_bytes, num_bytes / UNPACKED_PER_SECOND, f"{UNPACKED_PER_SECOND / 1e6:.0f} MB/s")


def preparing(seconds: float, spec: FbankSpec, *, copies: int) -> Cost:
    """Of shards with some copies of so many seconds of audio, in float16, by all cores of this machine."""
    num_frames = copies * seconds * 1000 / spec.frame_shift_ms
    rate = PREPARED_PER_CORE * num_cores()
    return Cost(
        num_frames * spec.num_features * 2,
        copies * seconds / rate,
        f"{copies * seconds / 3600:,.1f} h of audio, {num_cores()} cores",
    )


def training(config: Config, devices: Devices) -> Cost:
    """Of a run: three times the forward pass for every crop."""
    crops = config.train.steps * config.data.batch_size
    flops = 3 * forward_flops(config) * crops
    state = 8 * 60e6 * config.train.keep_checkpoints  # parameters and momentum of a large network
    return Cost(
        state,
        flops / devices.flops,
        f"{config.train.steps:,} steps of {config.data.batch_size}, {flops:.1e} FLOP, {devices.count} x {devices.kind}",
    )


def embedding(config: Config, seconds: float, devices: Devices) -> Cost:
    """Of embedding so many seconds of audio; scoring takes little beside it."""
    crop = config.data.crop_frames * config.fbank.frame_shift_ms / 1000
    return Cost(1e9, forward_flops(config) * seconds / crop / devices.flops, f"{seconds / 3600:,.1f} h of audio")


_counted: dict[str, float] = {}


def forward_flops(config: Config) -> float:
    """Floating-point operations of the network for one crop, counted as ``mqmha show`` does."""
    import jax
    import jax.numpy as jnp

    from mqmha_jax.flops import count_flops
    from mqmha_jax.models.speaker_net import build_speaker_net

    shape = (1, config.data.crop_frames, config.fbank.num_features)
    name = f"{config.model} {shape}"
    if name not in _counted:
        net = build_speaker_net(config.model)
        fbank, mask = jax.ShapeDtypeStruct(shape, jnp.float32), jax.ShapeDtypeStruct(shape[:2], jnp.bool_)
        variables = jax.eval_shape(lambda x, m: net.init(jax.random.key(0), x, m, train=False), fbank, mask)
        _counted[name] = count_flops(lambda v, x, m: net.apply(v, x, m, train=False), variables, fbank, mask)
    return _counted[name]
