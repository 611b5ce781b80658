"""The frame layers of the x-vector: a time-delay network, small and quick enough for plain CPUs."""

from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jax import Array
from jaxtyping import Bool, Float
from pydantic import PositiveInt

from mqmha_jax.errors import UserError
from mqmha_jax.models.masked import MaskedBatchNorm, mask_frames


class TDNN(nn.Module):
    """Time-delay layers: affine over neighbouring frames, ReLU, batch normalisation (Snyder et al., X-vectors, 2018).

    Every layer keeps the length: what lies outside the utterance, or outside the mask, counts as zero, the mean of a
    normalised activation. So the mask passes through unchanged, padding is exact, and one frame is long enough.

    Attributes:
      channels: width of all layers but the last.
      final_channels: width of the last layer, D.
      kernel_sizes: frames that each layer looks at; odd.
      dilations: distance between these frames.
      dtype: type of the activations.
    """

    channels: PositiveInt = 512
    final_channels: PositiveInt = 1500
    kernel_sizes: tuple[PositiveInt, ...] = (5, 3, 3, 1, 1)
    dilations: tuple[PositiveInt, ...] = (1, 2, 3, 1, 1)
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, fbank: Float[Array, "B T F"], mask: Bool[Array, "B T"], *, train: bool
    ) -> tuple[Float[Array, "B T D"], Bool[Array, "B T"]]:
        """Encodes filterbank frames.

        Args:
          fbank: mean-normalised log-mel features.
          mask: which frames are real.
          train: whether batch normalisation uses and collects the statistics of this batch.

        Returns:
          Frames in float32, one per input frame, and the mask as it came.

        Raises:
          UserError: if kernel sizes and dilations differ in number, or a kernel size is even.
        """
        self._check_layers()
        x = fbank.astype(self.dtype)
        for i, (kernel_size, dilation) in enumerate(zip(self.kernel_sizes, self.dilations, strict=True), start=1):
            reach = kernel_size // 2 * dilation
            x = nn.Conv(
                self.final_channels if i == len(self.kernel_sizes) else self.channels,
                (kernel_size,),
                kernel_dilation=dilation,
                padding=((reach, reach),),
                kernel_init=nn.initializers.kaiming_normal(),
                dtype=self.dtype,
                name=f"layer{i}",
            )(mask_frames(x, mask))
            x = MaskedBatchNorm(dtype=self.dtype, name=f"norm{i}")(nn.relu(x), mask, train=train)
        return x.astype(jnp.promote_types(self.dtype, jnp.float32)), mask

    def _check_layers(self) -> None:
        if not self.kernel_sizes or len(self.kernel_sizes) != len(self.dilations):
            raise UserError(
                f"Encoder 'tdnn': kernel_sizes has {len(self.kernel_sizes)} entries and dilations "
                f"{len(self.dilations)}; each layer needs one of both."
            )
        if even := [size for size in self.kernel_sizes if size % 2 == 0]:
            raise UserError(
                f"Encoder 'tdnn': kernel_sizes holds {even[0]}, but only an odd number of frames has a middle. "
                f"Use {even[0] - 1} or {even[0] + 1}."
            )
