"""Options of XLA for programs that convolve on a CPU."""

import jax

_OPTION = "xla_cpu_experimental_ynn_fusion_type"
_ALL_BUT_CONVOLUTIONS = "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT,LIBRARY_FUSION_TYPE_REDUCE"


def convolution_options(platform: str) -> dict[str, str]:
    """Compiler options with which convolutions use all cores of a CPU.

    XLA gives convolutions over time and frequency to the library YNNPACK. That of jax 0.10.2 computes many of them on
    a single core, such as those with 32 and 64 channels; without it, XLA computes them on all cores (Eigen). The other
    versions of jax that we tried do not have this fault (``docs/performance.md``).

    Args:
      platform: of the devices, such as "cpu".
    """
    if platform != "cpu" or jax.__version_info__[:3] != (0, 10, 2):
        return {}
    return {_OPTION: _ALL_BUT_CONVOLUTIONS}
