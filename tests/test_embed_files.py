"""Files and folders to one file of embeddings, with ids that lists name; an interrupted call is resumed."""

import os
import shutil
import signal
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mqmha_jax.config import Config, FbankSpec, ModelConfig, part
from mqmha_jax.data.embedding_files import read_embeddings
from mqmha_jax.embed_files import embed_files, list_audio
from mqmha_jax.errors import UserError
from mqmha_jax.evaluation.embeddings import recordings
from mqmha_jax.inference import SpeakerEncoder
from mqmha_jax.models.speaker_net import build_speaker_net
from mqmha_jax.types import Embeddings
from tests.support.paths import ROOT
from tests.support.tiny_audio import write_all, write_audio
from tests.support.voices import RATE_HZ, voice

CONFIG = Config(
    fbank=FbankSpec(num_mel_bins=8),
    model=ModelConfig(
        encoder=part("tdnn", channels=8, final_channels=8, kernel_sizes=[3], dilations=[1]),
        pooling=part("tstp"),
        embedding_dim=4,
    ),
)
NAMES = ("a/0.wav", "a/deep er/1.flac", "b/2.wav", "b/3.wav")


def make_encoder(seed: int) -> SpeakerEncoder:
    net = build_speaker_net(CONFIG.model)
    return SpeakerEncoder(
        CONFIG, net.init(jax.random.key(seed), jnp.zeros((1, 8, 8)), jnp.ones((1, 8), bool), train=False)
    )


@pytest.fixture(scope="module")
def encoder() -> SpeakerEncoder:
    return make_encoder(0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_all(tmp_path / "audio", NAMES)
    (tmp_path / "audio" / "notes.txt").touch()
    return tmp_path / "audio"


def refuse(error: object) -> None:
    raise AssertionError(error)


def ignore(_: object) -> None:
    """Noise is not speech, and is embedded with a warning."""


def test_names_are_what_lists_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert tuple(list_audio([folder], say=refuse)) == NAMES
    monkeypatch.chdir(folder)
    assert list(list_audio([Path("./a"), Path("b/2.wav")], say=refuse)) == ["a/0.wav", "a/deep er/1.flac", "b/2.wav"]
    said: list[str] = []
    assert list(list_audio([Path("a/0.wav"), Path("./a/0.wav"), Path("a//0.wav")], say=said.append)) == ["a/0.wav"]
    assert said == ["a/0.wav is given twice and embedded once."] * 2
    with pytest.raises(UserError, match=r"The file name 'a\\nb\.wav' has the character"):
        list_audio([Path("a\nb.wav")], say=refuse)


def test_a_name_that_cannot_be_an_id_does_not_stop_the_folder(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "copy")
    for name in (b"line\nbreak.wav", b"latin-\xe9.wav"):
        (tmp_path / "copy" / os.fsdecode(name)).touch()
    left_out: list[UserError] = []
    assert tuple(list_audio([tmp_path / "copy"], say=refuse, on_error=left_out.append)) == NAMES
    assert [str(error).split("'")[1] for error in left_out] == [r"latin-\udce9.wav", r"line\nbreak.wav"]
    with pytest.raises(UserError, match=r"not UTF-8"):
        list_audio([tmp_path / "copy"], say=refuse)
    with pytest.raises(UserError, match="Nothing to embed: no file has a name that can be an id"):
        list_audio([tmp_path / "copy" / "line\nbreak.wav"], say=refuse, on_error=left_out.append)


@pytest.mark.parametrize("name", ["out", "out.npz", "new folder/out.v2"])
def test_the_output_has_the_very_name_given(encoder: SpeakerEncoder, folder: Path, tmp_path: Path, name: str) -> None:
    files = list_audio([folder], say=refuse)
    errors: list[UserError] = []
    (folder / "b/2.wav").write_bytes(b"x")
    outcome = embed_files(encoder, files, tmp_path / name, on_error=errors.append, on_warning=ignore)
    assert outcome == (3, 0, 4)
    assert [str(folder / "b/2.wav") in str(error) for error in errors] == [True]
    made = (tmp_path / name).rename(tmp_path / "e.npz")
    embeddings = read_embeddings(made)
    assert embeddings.ids == (NAMES[0], NAMES[1], NAMES[3])
    alone = encoder.embed(folder / NAMES[3], on_warning=ignore)
    np.testing.assert_allclose(embeddings.vectors[2], alone.vectors[0], rtol=1e-4, atol=1e-5)
    assert not list(tmp_path.rglob(".*"))


def test_an_interrupted_call_is_resumed(
    encoder: SpeakerEncoder, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recordings, "FRAMES_AT_ONCE", 1)  # each file is a part
    files, output = list_audio([folder], say=refuse), tmp_path / "e.npz"
    expected = encoder.embed([folder / name for name in NAMES], on_warning=ignore).vectors

    def interrupt(text: str) -> None:
        if NAMES[2] in text:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        embed_files(encoder, files, output, on_error=refuse, on_warning=interrupt)
    assert not output.exists()
    (parts,) = tmp_path.glob("*.parts")
    assert parts.stat().st_mode & 0o077 == 0, "only its owner reads embeddings that have no output yet"
    other = embed_files(make_encoder(1), files, tmp_path / "other", on_error=refuse, on_warning=ignore)
    assert other.num_resumed == 0
    with pytest.raises(UserError, match=r"parts holds embeddings for .*e\.npz by another network, other features"):
        embed_files(make_encoder(1), files, output, on_error=refuse, on_warning=ignore)
    with pytest.raises(UserError, match="or another channel"):
        embed_files(encoder, files, output, channel=0, on_error=refuse, on_warning=ignore)
    said: list[str] = []
    write_all(folder, NAMES[:1])
    (folder / NAMES[0]).touch()  # changed since
    outcome = embed_files(encoder, files, output, on_error=refuse, on_warning=said.append)
    assert outcome == (4, 1, 4)
    assert [name for name in NAMES if any(name in text for text in said)] == [NAMES[0], NAMES[2], NAMES[3]]
    assert read_embeddings(output).ids == NAMES
    np.testing.assert_allclose(read_embeddings(output).vectors, expected, rtol=1e-4, atol=1e-5)
    assert not list(tmp_path.rglob(".*"))


@pytest.mark.parametrize("one", ["one", os.fsdecode(b"on\xe9")])
def test_files_of_another_folder_are_embedded_again(
    encoder: SpeakerEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one: str
) -> None:
    monkeypatch.setattr(recordings, "FRAMES_AT_ONCE", 1)
    output, link = tmp_path / "e.npz", tmp_path / "link"
    for folder, pitch_hz in (("some", 100), ("other", 250)):
        for name in ("0.wav", "1.wav"):
            write_audio(tmp_path / folder / name, voice(1, pitch_hz))
            os.utime(tmp_path / folder / name, (1e9, 1e9))
    write_audio(tmp_path / "some" / "silence.wav", np.zeros(RATE_HZ))
    (tmp_path / "some").rename(tmp_path / one)

    def interrupt(warning: str) -> None:
        raise KeyboardInterrupt

    link.symlink_to(tmp_path / one)
    with pytest.raises(KeyboardInterrupt):
        embed_files(encoder, list_audio([link], say=refuse), output, on_error=refuse, on_warning=interrupt)
    assert list(tmp_path.glob(".*.parts/*.npz"))
    link.unlink()
    link.symlink_to(tmp_path / "other")
    files = list_audio([link], say=refuse)
    assert embed_files(encoder, files, output, on_error=refuse, on_warning=refuse) == (2, 0, 4)
    expected = encoder.embed([*files.values()]).vectors
    np.testing.assert_allclose(read_embeddings(output).vectors, expected, rtol=1e-4, atol=1e-5)


def test_a_second_call_at_the_same_time_is_refused(
    encoder: SpeakerEncoder, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recordings, "FRAMES_AT_ONCE", 1)
    files, output = list_audio([folder], say=refuse), tmp_path / "e.npz"
    expected = encoder.embed([folder / name for name in NAMES], on_warning=ignore).vectors
    refused = []

    def call_again(text: str) -> None:
        if NAMES[0] in text or NAMES[3] in text:  # before the first part, and before the last one
            with pytest.raises(UserError) as error:
                embed_files(encoder, files, output, on_error=refuse, on_warning=ignore)
            refused.append(str(error.value))

    assert embed_files(encoder, files, output, on_error=refuse, on_warning=call_again) == (4, 0, 4)
    assert len(refused) == 2
    assert all(f"{output} is being written by another call, which keeps its parts in " in text for text in refused)
    np.testing.assert_allclose(read_embeddings(output).vectors, expected, rtol=1e-4, atol=1e-5)
    assert not list(tmp_path.rglob(".*"))


@pytest.mark.parametrize("removed", ["000000.npz", "*"])
def test_embeddings_that_disappeared_are_no_zeros(
    encoder: SpeakerEncoder, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, removed: str
) -> None:
    monkeypatch.setattr(recordings, "FRAMES_AT_ONCE", 1)
    files, output = list_audio([folder], say=refuse), tmp_path / "e.npz"
    embed_groups = SpeakerEncoder.embed_groups

    def embed_and_remove(*arguments: object, **options: object) -> Iterator[Embeddings]:
        yield from embed_groups(*arguments, **options)  # type: ignore[arg-type]
        for path in tmp_path.glob(f".*.parts/{removed}"):
            path.unlink()

    monkeypatch.setattr(SpeakerEncoder, "embed_groups", embed_and_remove)
    number = {"000000.npz": "1 embedding", "*": "4 embeddings"}[removed]
    with pytest.raises(UserError, match=rf"e\.npz is not written: {number}, such as that of 'a/0\.wav', disappeared"):
        embed_files(encoder, files, output, on_error=refuse, on_warning=ignore)
    assert not output.exists()


def test_an_output_that_others_may_not_read_stays_so(encoder: SpeakerEncoder, folder: Path, tmp_path: Path) -> None:
    files, output = list_audio([folder], say=refuse), tmp_path / "e.npz"
    for mode in (0o644, 0o600):
        output.touch()
        output.chmod(mode)
        embed_files(encoder, files, output, on_error=refuse, on_warning=ignore)
        assert output.stat().st_mode & 0o777 == mode


def test_a_damaged_part_is_embedded_again(
    encoder: SpeakerEncoder, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recordings, "FRAMES_AT_ONCE", 1)
    files, output = list_audio([folder], say=refuse), tmp_path / "e.npz"

    def interrupt(text: str) -> None:
        if NAMES[3] in text:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        embed_files(encoder, files, output, on_error=refuse, on_warning=interrupt)
    (first, *_) = sorted(tmp_path.rglob("*.parts/*.npz"))
    first.write_bytes(first.read_bytes()[:-9])
    with pytest.raises(KeyboardInterrupt):
        embed_files(encoder, files, output, on_error=refuse, on_warning=interrupt)
    assert len(list(tmp_path.rglob("*.parts/*.npz"))) == 3  # the new part replaces no good one
    assert embed_files(encoder, files, output, on_error=refuse, on_warning=ignore) == (4, 3, 4)


def test_recordings_of_every_kind(encoder: SpeakerEncoder, tmp_path: Path) -> None:
    one = voice(1, 220)
    write_audio(tmp_path / "mono.wav", one)
    write_audio(tmp_path / "nan.wav", np.where(np.arange(RATE_HZ) == 80, np.nan, one))
    write_audio(tmp_path / "short.wav", one[: RATE_HZ // 20])
    write_audio(tmp_path / "silence.wav", np.zeros(RATE_HZ))
    write_audio(tmp_path / "stereo.wav", np.stack([one, one], axis=1))
    write_audio(tmp_path / "telephone.wav", one[::2], RATE_HZ // 2)
    errors: list[UserError] = []
    said: list[str] = []
    files, output = list_audio([tmp_path], say=refuse), tmp_path / "e.npz"
    embed_files(encoder, files, output, on_error=errors.append, on_warning=said.append)
    ids, vectors = read_embeddings(output)
    assert ids == ("mono.wav", "short.wav", "silence.wav", "stereo.wav", "telephone.wav")
    assert np.isfinite(vectors).all()
    np.testing.assert_allclose(vectors[3], vectors[0], rtol=1e-5, atol=1e-6)
    assert ["1 of 16000 samples are NaN or infinite" in str(error) for error in errors] == [True]
    assert [text.split(str(tmp_path))[1].split(";")[0] for text in said] == [
        "/short.wav: no speech in 0.1 s of sound",
        "/silence.wav: no speech, 1.0 s of silence",
    ]


@pytest.mark.slow
def test_three_hours_leave_memory_flat(encoder: SpeakerEncoder, tmp_path: Path) -> None:
    hours = write_audio(tmp_path / "hours.flac", np.zeros(3 * 3600 * RATE_HZ // 2, np.int16), RATE_HZ // 2)
    encoder.embed(voice(1, 220))
    said: list[str] = []
    tracemalloc.start()
    encoder.embed(hours, on_warning=said.append)
    assert tracemalloc.get_traced_memory()[1] < 100e6  # all samples would be 691 MB
    tracemalloc.stop()
    assert "lasts 180 min; only its middle 2 min are embedded" in said[-1]


def test_nothing_to_embed(encoder: SpeakerEncoder, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="Nothing to embed: 1 file given, none can be used"):
        embed_files(encoder, {"x": tmp_path / "x"}, tmp_path / "e.npz", on_error=ignore, on_warning=ignore)
    assert not list(tmp_path.iterdir())


KILLED = """
import os, signal, sys
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from mqmha_jax.embed_files import embed_files, list_audio
from mqmha_jax.evaluation.embeddings import recordings
from tests.test_embed_files import make_encoder

recordings.FRAMES_AT_ONCE = 1
folder, output = map(Path, sys.argv[1:])

def kill(text):
    if "b/3.wav" in text:
        os.kill(os.getpid(), signal.SIGKILL)

embed_files(make_encoder(0), list_audio([folder], say=print), output, on_error=print, on_warning=kill)
"""


def test_a_killed_process_is_resumed(encoder: SpeakerEncoder, folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "e.npz"
    killed = subprocess.run([sys.executable, "-c", KILLED, str(folder), str(output)], cwd=ROOT, capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert not output.exists()
    outcome = embed_files(encoder, list_audio([folder], say=refuse), output, on_error=refuse, on_warning=ignore)
    assert outcome.num_embedded == 4
    assert outcome.num_resumed in (2, 3)  # the third may still have been on its way to the disk
    expected = encoder.embed([folder / name for name in NAMES], on_warning=ignore).vectors
    np.testing.assert_allclose(read_embeddings(output).vectors, expected, rtol=1e-4, atol=1e-5)
    assert not list(tmp_path.rglob(".*"))
