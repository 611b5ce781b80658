"""Writes a small random ECAPA of SpeechBrain with inputs and embeddings; run by an interpreter that has SpeechBrain.

python tests/support/speechbrain_reference.py FOLDER
"""

import sys
from pathlib import Path

import numpy as np
import torch
from speechbrain.lobes.models.ECAPA_TDNN import ECAPA_TDNN


def main(folder: Path) -> None:
    torch.manual_seed(0)
    sizes = {"channels": [16, 16, 16, 16, 48], "attention_channels": 8, "se_channels": 8, "res2net_scale": 4}
    net = ECAPA_TDNN(80, lin_neurons=24, **sizes).eval()
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm1d):
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 2)
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.normal_(0, 0.3)
    torch.save(net.state_dict(), folder / "zip.pt")
    torch.save(net.state_dict(), folder / "stream.pt", _use_new_zipfile_serialization=False)
    arrays = {}
    for length in (48, 97, 200):
        fbank = torch.randn(2, length, 80)
        with torch.no_grad():
            embedding = net(fbank).squeeze(1)
        arrays |= {f"input/{length}": fbank.numpy(), f"embedding/{length}": embedding.numpy()}
    np.savez(folder / "reference.npz", **arrays)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
