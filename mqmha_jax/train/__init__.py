"""Training: ``loop.py`` is the whole loop; every other file is one part of it."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mqmha_jax.train.loop import TrainResult as TrainResult
    from mqmha_jax.train.loop import train as train


def __getattr__(name: str) -> Any:
    # The loop imports most of the project; code that needs one part of it does not wait for the rest.
    if name in ("train", "TrainResult"):
        from mqmha_jax.train import loop

        return getattr(loop, name)
    raise AttributeError(f"module 'mqmha_jax.train' has no attribute {name!r}")
