"""The filterbanks that other toolkits compute for a network, whatever it was trained with."""

import dataclasses

from mqmha_jax.config import FbankSpec

# What no option of sherpa-onnx changes (its features.h and speaker-embedding-extractor-model.cc).
SHERPA = FbankSpec(window="povey", high_hz=-400.0, snip_edges=False)
# torchaudio's kaldi.fbank: WeSpeaker sets its window, 3D-Speaker's infer_sv.py leaves all but the 80 bands at defaults.
WESPEAKER = FbankSpec(window="hamming")
THREE_D_SPEAKER = FbankSpec(window="povey")


def fbank_differences(ours: FbankSpec, theirs: FbankSpec, *, ignored: tuple[str, ...] = ()) -> list[str]:
    """Lists how a toolkit's filterbank differs from that of a run: ``window: hamming here, povey there``.

    Args:
      ours: of the run.
      theirs: of the toolkit.
      ignored: options that the toolkit takes from the run, or that a remark of its own tells.
    """
    here, there = dataclasses.asdict(ours), dataclasses.asdict(theirs)
    return [
        f"{name}: {value} here, {there[name]} there"
        for name, value in here.items()
        if name not in ignored and value != there[name]
    ]
