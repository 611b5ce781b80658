"""What a network is told about the device that it will run on."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Hardware:
    """How to compute, never what: results agree to rounding. ``parallel.hardware`` fills it in.

    Attributes:
      lanes: channels that a vector holds; narrower arrays are folded until they fill it (``models/folding.py``).
      kernel_gradient_by_patches: gradients of the kernels of convolutions as sums of matrix products
        (``models/convolution.py``).
    """

    lanes: int = 1
    kernel_gradient_by_patches: bool = False


ANY = Hardware()
"""Nothing is known: everything is computed the plain way."""
