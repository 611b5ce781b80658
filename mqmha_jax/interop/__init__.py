"""Models that other toolkits trained, read as data: nothing in a foreign file is ever executed."""

from mqmha_jax.interop.checkpoint_file import network_tensors, read_checkpoint_file
from mqmha_jax.interop.families import FAMILIES
from mqmha_jax.interop.import_model import ImportedModel, import_model, recognize_families
from mqmha_jax.interop.torch_file import read_torch_file
