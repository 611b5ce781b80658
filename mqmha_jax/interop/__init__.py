"""Imports and exports models of other toolkits as data. It never executes anything in a foreign file."""

from mqmha_jax.interop.checkpoint_file import network_tensors, read_checkpoint_file
from mqmha_jax.interop.export_model import ExportedModel, export_model
from mqmha_jax.interop.families import FAMILIES
from mqmha_jax.interop.import_model import ImportedModel, import_model, recognize_families, variable_shapes
from mqmha_jax.interop.torch_file import read_torch_file
