"""Models that other toolkits trained, read as data: nothing in a foreign file is ever executed."""

from mqmha_jax.interop.torch_file import read_torch_file
from mqmha_jax.interop.wespeaker import ImportedModel, import_wespeaker_resnet
