"""Makes wespeaker_resnet.npz: WeSpeaker's embeddings of the network in tests/support/wespeaker_network.py.

pip install wespeaker-unofficial==0.0.2
python -m tests.reference.make_wespeaker_resnet
"""

from pathlib import Path

import numpy as np
import torch
from wespeaker.models.resnet import BasicBlock, ResNet

from mqmha_jax.interop import export_model
from tests.support.wespeaker_network import CONFIG, NUM_FEATURES, draw_fbank, draw_network

network, fbank = draw_network(), draw_fbank()
exported = export_model(CONFIG, network, num_features=NUM_FEATURES)
net = ResNet(BasicBlock, [2, 2, 2, 2], m_channels=4, feat_dim=NUM_FEATURES, embed_dim=6, pooling_func="MQMHASTP").eval()
tensors = {name: torch.from_numpy(np.array(value)) for name, value in exported.tensors.items()}
counters = {name: value for name, value in net.state_dict().items() if name.endswith("num_batches_tracked")}
net.load_state_dict(tensors | counters)
with torch.no_grad():
    _, embedding = net(torch.from_numpy(fbank))
np.savez(Path(__file__).with_name("wespeaker_resnet.npz"), embedding=embedding.numpy())
