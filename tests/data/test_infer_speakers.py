"""Speakers told by trial lists: by folders that agree with every label, or by chains of target trials."""

import numpy as np

from mqmha_jax.data.infer_speakers import infer_speakers
from mqmha_jax.types import Trials


def trials(*lines: str) -> Trials:
    labels, enrol, test = zip(*(line.split() for line in lines), strict=True)
    return Trials(enrol, test, np.array([label == "1" for label in labels]))


def test_folders_that_agree_with_the_labels_are_speakers() -> None:
    voxceleb = trials("1 id1/x/1 id1/y/1", "0 id1/x/1 id2/z/1")
    assert infer_speakers([voxceleb]) == {"id1/x/1": "id1", "id1/y/1": "id1", "id2/z/1": "id2"}
    deeper = trials("1 audio/a/1 audio/a/2", "0 audio/a/1 audio/b/1")
    assert infer_speakers([deeper]) == {"audio/a/1": "a", "audio/a/2": "a", "audio/b/1": "b"}
    equal_names = trials("1 x/a/1 x/a/2", "0 x/a/1 y/a/1")  # the level above already agrees
    assert infer_speakers([equal_names]) == {"x/a/1": "x", "x/a/2": "x", "y/a/1": "y"}
    several = trials("1 x/a/1 x/a/2", "0 x/a/1 y/a/1", "0 x/b/1 x/a/1")
    assert infer_speakers([several])["y/a/1"] == "y/a"


def test_else_target_trials_link_utterances() -> None:
    flat = trials("1 a b", "1 b c", "0 a d", "1 e f", "0 e c")
    assert infer_speakers([flat]) == {
        **dict.fromkeys("abc", "speaker of a"),
        "d": "speaker of d",
        **dict.fromkeys("ef", "speaker of e"),
    }
    assert infer_speakers([trials("1 a b"), trials("1 b c", "0 a d")])["c"] == "speaker of a"


def test_labels_that_contradict_each_other_tell_nothing() -> None:
    assert infer_speakers([trials("1 a b", "1 b c", "0 a c")]) == {}
