"""What a loss does to a cosine; each loss is one file and one line here."""

from collections.abc import Callable

from mqmha_jax.losses.margins.adaptive import adaface
from mqmha_jax.losses.margins.additive import am, normface, softmax
from mqmha_jax.losses.margins.angular import aam
from mqmha_jax.losses.margins.curricular import curricular
from mqmha_jax.losses.margins.margin import Example, Margin
from mqmha_jax.losses.margins.multiplicative import a_softmax
from mqmha_jax.losses.margins.sphereface2 import sphereface2

MARGINS: dict[str, Callable[..., Margin]] = {
    "softmax": softmax,
    "normface": normface,
    "am": am,
    "aam": aam,
    "a_softmax": a_softmax,
    "sphereface2": sphereface2,
    "curricular": curricular,
    "adaface": adaface,
}
