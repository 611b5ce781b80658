"""The two sizes of every ready study.

``full`` uses VoxCeleb2-dev as in configs/voxceleb_resnet34_mqmha.py, with a quarter of its steps. It evaluates on
VoxCeleb1-O/E/H; E alone decides, because the lists share speakers. ``small`` uses configs/laptop.py on a corpus of a
few hours, with smaller batches and crops, so that a run takes minutes on two CPU cores. It evaluates on four lists of
different speakers, whose mean decides. It pools with MQMHA on a wider encoder, because the studies ask about MQMHA, and
has no loss over pairs, because they ask about the margin softmax. We chose the learning rate on held-out training
speakers (docs/studies/settings).
"""

from typing import Any

from mqmha_jax.config_io import load_config
from mqmha_jax.study import Budget, Study, TrialList

SMALL = load_config(
    "laptop",
    [
        "model.pooling=mqmha",
        "model.pooling.heads=8",
        "model.pooling.queries=2",
        "model.encoder.channels=256",
        "model.encoder.final_channels=512",
        "loss.pairs=[]",
        "data.utterances_per_speaker=1",
        "data.speaker_exponent=null",
        "spec_augment.num_time_masks=1",
        "spec_augment.max_time_mask_frames=20",
        "spec_augment.num_frequency_masks=1",
        "data.batch_size=64",
        "data.crop_frames=150",
        "train.steps=600",
        "train.log_every=20",
        "train.checkpoint_every=200",
        "train.keep_checkpoints=1",
    ],
)
FULL = load_config(
    "voxceleb_resnet34_mqmha", ["train.steps=32000", "train.keep_checkpoints=2", "loss.diagnostics=true"]
)

SMALL_LISTS = (
    TrialList("trials_libri10.txt", shards="libri10"),
    TrialList("trials_dsp10.txt", shards="dsp10"),
    TrialList("trials_arabic10.txt", shards="arabic10"),
    TrialList("trials_wuw_xsession.txt", shards="wuw_xsession"),
)
FULL_LISTS = tuple(TrialList(f"vox1_{name}_cleaned.txt", shards="vox1") for name in "oeh")


def small(*, runs: int, **parts: Any) -> Study:
    """Makes a study on the laptop corpus; ``parts`` are the other arguments of ``Study``."""
    return Study(base=SMALL, train="train", lists=SMALL_LISTS, budget=Budget(runs, minutes_per_run=4.0), **parts)


def full(*, runs: int, **parts: Any) -> Study:
    """Makes a study on VoxCeleb; ``parts`` are the other arguments of ``Study``."""
    return Study(
        base=FULL,
        train="vox2_train",
        lists=FULL_LISTS,
        decide_on="vox1_e_cleaned",
        budget=Budget(runs, minutes_per_run=24 * 60.0),
        **parts,
    )
