"""The frame layers of the x-vector: a time-delay network, small and quick enough for plain CPUs."""

import jax.numpy as jnp
from flax import linen as nn
from jax import Array
from jaxtyping import Bool, Float
from pydantic import PositiveInt

from mqmha_jax.errors import UserError
from mqmha_jax.models.encoders.time_delay import Edges, TimeDelayLayer
from mqmha_jax.models.masked import Compute, check_mask


class TDNN(nn.Module):
    """Time-delay layers: affine over neighbouring frames, ReLU, batch normalisation (Snyder et al., X-vectors, 2018).

    Input outside the utterance, or outside the mask, is zero, the mean of a normalised activation. So a layer without a
    stride keeps the length, padding is exact, and one frame is long enough. The x-vector drops frames near the edges
    instead.

    Attributes:
      channels: width of all layers but the last.
      final_channels: width of the last layer, D.
      kernel_sizes: number of input frames per frame of each layer's result; odd.
      dilations: distance between these frames.
      strides: each layer keeps every stride-th frame (2 in the first layer halves the cost of the others); empty: all.
      edges: for frames whose context reaches beyond the utterance: ``"zeros"``; the utterance ``"reflected"``; or they
        are ``"dropped"`` from the result, unless the utterance is too short to have others.
      affine_norm: the normalisations have a scale and a bias.
      compute: types, normalisation groups, rematerialisation by layer.
    """

    channels: PositiveInt = 512
    final_channels: PositiveInt = 1500
    kernel_sizes: tuple[PositiveInt, ...] = (5, 3, 3, 1, 1)
    dilations: tuple[PositiveInt, ...] = (1, 2, 3, 1, 1)
    strides: tuple[PositiveInt, ...] = ()
    edges: Edges = "zeros"
    affine_norm: bool = True
    compute: Compute = Compute()

    @nn.compact
    def __call__(
        self, fbank: Float[Array, "B T F"], mask: Bool[Array, "B T"], *, train: bool
    ) -> tuple[Float[Array, "B t D"], Bool[Array, "B t"]]:
        """Encodes filterbank frames.

        Args:
          fbank: mean-normalised log-mel features.
          mask: which frames are real.
          train: whether batch normalisation uses and collects the statistics of this batch.

        Returns:
          Frames in float32, ``t = ceil(T / product of strides)`` of them, and which of them are real.

        Raises:
          UserError: if kernel sizes, dilations and strides differ in number, or a kernel size is even.
        """
        check_mask(fbank, mask)
        strides = self.strides or (1,) * len(self.kernel_sizes)
        self._check_layers(len(strides))
        x = fbank.astype(self.compute.dtype)
        layer_class = nn.remat(TimeDelayLayer, static_argnums=(3,)) if self.compute.rematerialize else TimeDelayLayer
        layers = zip(self.kernel_sizes, self.dilations, strides, strict=True)
        for i, (kernel_size, dilation, stride) in enumerate(layers, start=1):
            layer = layer_class(
                self.final_channels if i == len(self.kernel_sizes) else self.channels,
                kernel_size,
                dilation,
                stride,
                self.compute,
                self.edges,
                self.affine_norm,
                name=f"layer{i}",
            )
            x, mask = layer(x, mask, train)
        return x.astype(jnp.promote_types(self.compute.dtype, jnp.float32)), mask

    def _check_layers(self, num_strides: int) -> None:
        numbers = {"kernel_sizes": len(self.kernel_sizes), "dilations": len(self.dilations), "strides": num_strides}
        if not self.kernel_sizes or len(set(numbers.values())) > 1:
            found = ", ".join(f"{name} has {number}" for name, number in numbers.items())
            raise UserError(f"Encoder 'tdnn': each layer needs one entry of each, but {found} entries.")
        if even := [size for size in self.kernel_sizes if size % 2 == 0]:
            raise UserError(
                f"Encoder 'tdnn': kernel_sizes holds {even[0]}, but only an odd number of frames has a middle. "
                f"Use {even[0] - 1} or {even[0] + 1}."
            )
