"""The layer that time-delay networks are made of."""

from flax import linen as nn
from jax import Array
from jaxtyping import Bool, Float

from mqmha_jax.models.masked import Compute, MaskedBatchNorm, mask_positions


class TimeDelayLayer(nn.Module):
    """Affine over frames at a distance, ReLU, batch normalisation."""

    channels: int
    kernel_size: int
    dilation: int
    stride: int
    compute: Compute

    @nn.compact
    def __call__(
        self, x: Float[Array, "B T c"], mask: Bool[Array, "B T"], train: bool
    ) -> tuple[Float[Array, "B t o"], Bool[Array, "B t"]]:
        reach = self.kernel_size // 2 * self.dilation
        x = nn.Conv(
            self.channels,
            (self.kernel_size,),
            strides=self.stride,
            kernel_dilation=self.dilation,
            padding=((reach, reach),),
            kernel_init=nn.initializers.kaiming_normal(),
            dtype=self.compute.dtype,
            name="affine",
        )(mask_positions(x, mask))
        mask = mask[:, :: self.stride]
        norm = MaskedBatchNorm(groups=self.compute.batch_norm_groups, dtype=self.compute.dtype, name="norm")
        return norm(nn.relu(x), mask, train=train), mask
