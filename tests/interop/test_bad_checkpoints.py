"""``mqmha import`` answers each bad checkpoint with one clear sentence, and no run appears."""

import os
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.numpy import save_file

from mqmha_jax.cli import main
from mqmha_jax.interop.torch_writer import write_torch_file
from tests.support.foreign import small_state, write_small_checkpoint


class _Payload:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def truncated(folder: Path) -> None:
    write_small_checkpoint(folder / "model.pt")
    content = (folder / "model.pt").read_bytes()
    (folder / "model.pt").write_bytes(content[: len(content) // 2])


def of_no_family(folder: Path) -> None:
    write_torch_file(folder / "model.pt", {"wav2vec.proj.weight": np.zeros((2, 2), np.float32)})


def a_tensor_missing(folder: Path) -> None:
    state = small_state()
    del state["frame_3.conv_1d.bias"]
    write_torch_file(folder / "model.pt", state)


def a_tensor_too_many(folder: Path) -> None:
    write_torch_file(folder / "model.pt", {**small_state(), "frame_9.conv_1d.bias": np.zeros(3, np.float32)})


def transposed(folder: Path) -> None:
    state = small_state()
    write_torch_file(folder / "model.pt", {**state, "seg_1.weight": state["seg_1.weight"].T})


def without_values(folder: Path) -> None:
    state = small_state()
    write_torch_file(folder / "model.pt", {**state, "frame_5.conv_1d.weight": state["frame_5.conv_1d.weight"][:0]})


def not_finite(folder: Path) -> None:
    state = small_state()
    state["seg_2.bias"][3] = np.nan
    write_torch_file(folder / "model.pt", state)


def a_payload(folder: Path) -> None:
    (folder / "model.pt").write_bytes(pickle.dumps({"x": _Payload(folder / "executed")}))


def four_gigabytes(folder: Path) -> None:
    header = b'{"x":{"dtype":"F32","shape":[1073741824],"data_offsets":[0,4294967296]}}'
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)


def eight_bits(folder: Path) -> None:
    header = b'{"x":{"dtype":"F8_E4M3","shape":[2],"data_offsets":[0,2]}}'
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(2))


def a_config_that_constructs_objects(folder: Path) -> None:
    write_small_checkpoint(folder / "model.pt")
    (folder / "config.yaml").write_text(f"x: !!python/object/apply:os.mkdir [{folder / 'executed'}]\n")


def a_config_of_another_kind(folder: Path) -> None:
    write_small_checkpoint(folder / "model.pt")
    (folder / "config.yaml").write_text("dataset_args: {fbank_args: {num_mel_bins: many}}\n")


def other_features(folder: Path) -> None:
    write_small_checkpoint(folder / "model.pt", num_features=24)


def integers(folder: Path) -> None:
    save_file({"frame_1.conv_1d.weight": np.zeros(3, np.int32)}, folder / "model.safetensors")


def a_picture(folder: Path) -> None:
    (folder / "model.pt").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))


def empty(folder: Path) -> None:
    (folder / "model.pt").touch()


def a_folder(folder: Path) -> None:
    (folder / "model.pt").mkdir()
    (folder / "model.pt" / "avg_model.pt").touch()


def an_empty_folder(folder: Path) -> None:
    (folder / "model.pt").mkdir()


CASES = {
    truncated: "model.pt cannot be read as a PyTorch checkpoint: its end is missing. .* complete",
    of_no_family: r"belongs to no known family \(.*wespeaker_xvector.*\): its tensors are wav2vec.proj.weight",
    a_tensor_missing: "The checkpoint is not a known WeSpeaker XVEC, or .*: it lacks 'frame_3.conv_1d.bias'",
    a_tensor_too_many: "no place in a WeSpeaker XVEC like this one: frame_9.conv_1d.bias",
    transposed: "model.pt: The layer behind the pooling takes 6 values, 0.6 for each of the encoder's 10 channels",
    without_values: r"model.pt: The tensor 'frame_5.conv_1d.weight' has the shape \(0, .* and holds no values",
    not_finite: "model.pt: the tensor 'seg_2.bias' holds 1 value, NaN or infinite",
    a_payload: "model.pt asks for posix.mkdir, which does not belong in a plain state dictionary; nothing was executed",
    four_gigabytes: "model.safetensors cannot be read as a safetensors file .*; it is damaged or incomplete",
    eight_bits: "model.safetensors: the tensor 'x' has the type F8_E4M3, which is not read; save it as F32, F16 or",
    a_config_that_constructs_objects: "config.yaml asks for an object.*os.mkdir.*nothing was executed",
    a_config_of_another_kind: "Features from .*config.yaml: .*fbank.num_mel_bins='many'",
    other_features: "WeSpeaker XVEC takes 24 features per frame, not 16; import it with --num-mel-bins 24",
    integers: r"'frame_1.conv_1d.weight' has the shape \(3,\); in a WeSpeaker XVEC it has 3 axes",
    a_picture: r"model.pt cannot be read as a PyTorch checkpoint: it begins with b'\\x89PNG'. It must be a file that",
    empty: "model.pt cannot be read as a PyTorch checkpoint: it is empty. It must be",
    a_folder: r"model.pt is a folder; give the checkpoint file in it, such as .*model.pt/avg_model.pt\.",
    an_empty_folder: r"model.pt is a folder; give the checkpoint file in it, which ends in .safetensors, .pt, .pth,",
}


@pytest.mark.parametrize("make", CASES, ids=lambda make: make.__name__)
def test_a_bad_checkpoint_gets_one_sentence(make, tmp_path):
    make(tmp_path)
    (file,) = tmp_path.glob("model.*")
    options = [] if (tmp_path / "config.yaml").exists() else ["--num-mel-bins", "16"]
    result = CliRunner().invoke(main, ["import", str(file), "--workdir", str(tmp_path / "run"), *options])
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit), result.exception
    text = " ".join(result.output.split())
    assert re.search(CASES[make], text), text
    assert not (tmp_path / "run").exists()
    assert not (tmp_path / "executed").exists()
