"""Writes the text of a small compiled step for a TPU v5e-8, as the installed versions of jax and libtpu write it.

    python - tests/reference/hlo < tests/reference/hlo/make.py

Read from standard input, so that the text holds no path. Needs no TPU. ``tests/plan/test_plan_samples.py`` reads the
samples of two versions; add another when XLA changes its writing.
"""

import os
import sys
from importlib.metadata import version
from pathlib import Path

os.environ.update(JAX_PLATFORMS="cpu", TPU_SKIP_MDS_QUERY="1", TPU_WORKER_HOSTNAMES="localhost")
os.environ.update(TPU_ACCELERATOR_TYPE="v5e-8", TPU_LOG_DIR="disabled", ALLOW_MULTIPLE_LIBTPU_LOAD="1")

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental.topologies import get_topology_desc
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec


def step(image, kernel, weights, classes):
    dimensions = ("NHWC", "HWIO", "NHWC")
    x = lax.conv_general_dilated(image, kernel, (2, 1), ((1, 1), (0, 2)), dimension_numbers=dimensions)
    x = x.mean(axis=(1, 2))
    x = lax.scan(lambda carry, part: (jnp.tanh(carry @ part), None), x, weights)[0]
    return jax.nn.logsumexp(x @ classes, axis=1).mean()


topology = get_topology_desc(
    platform="tpu",
    topology_name="v5e:2x4",
    chip_config_name="default",
    chips_per_host_bounds=(2, 2, 1),
    num_slices=1,
    wrap=(False,) * 3,
)
mesh = Mesh(np.array(topology.devices).reshape(4, 2), ("data", "model"), axis_types=(AxisType.Auto,) * 2)


def array(shape, *axes):
    return jax.ShapeDtypeStruct(shape, jnp.float32, sharding=NamedSharding(mesh, PartitionSpec(*axes)))


arguments = (
    array((16, 9, 7, 8), "data"),
    array((3, 3, 8, 16)),
    array((5, 16, 16)),
    array((16, 256), None, "model"),
)
compiled = jax.jit(jax.value_and_grad(step, argnums=(1, 2, 3))).lower(*arguments).compile()
path = Path(sys.argv[1]) / f"jax_{version('jax')}_libtpu_{version('libtpu')}.txt"
path.write_text(compiled.as_text())
print(f"{path}: {compiled.memory_analysis()}")
