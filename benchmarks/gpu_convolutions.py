"""Lists the half-precision convolutions over time that this device computes wrongly or refuses.

    python benchmarks/gpu_convolutions.py --encoder ecapa512 --encoder campplus --rows 64

Checks those of the network and of its gradient at their real sizes, as training does at its start
(``models/trusted_convolutions.py``). Appends the numbers to ``results/gpu_convolutions.jsonl``.
"""

import click
import jax
from record import keep

from mqmha_jax.config import ModelConfig, part
from mqmha_jax.models import build_speaker_net
from mqmha_jax.models.trusted_convolutions import find_time_convolutions, is_right


@click.command(context_settings={"show_default": True})
@click.option("--encoder", "encoders", multiple=True, default=("ecapa512", "campplus"), help="Encoder; repeatable.")
@click.option("--rows", type=click.IntRange(1), default=64, help="Utterances.")
@click.option("--frames", type=click.IntRange(8), default=200, help="Frames per utterance.")
@click.option("--bins", type=click.IntRange(8), default=80, help="Mel bands per frame.")
def main(encoders: tuple[str, ...], rows: int, frames: int, bins: int) -> None:
    """Check, print and record."""
    for encoder in encoders:
        config = ModelConfig(encoder=part(encoder), pooling=part("tstp"), compute_dtype="bfloat16")
        found = find_time_convolutions(build_speaker_net(config), bins, rows=rows, frames=frames)
        wrong = [convolution for convolution in found if not is_right(convolution)]
        click.echo(f"{encoder}: {len(wrong)} of {len(found)} convolutions over time are wrong on {jax.devices()[0]}")
        for convolution in wrong:
            shapes = " * ".join(str(variable.aval.str_short()) for variable in convolution.invars)
            click.echo(f"  {shapes}, dilation {convolution.params['rhs_dilation']}")
        keep("gpu_convolutions", {"encoder": encoder, "rows": rows, "found": len(found), "wrong": len(wrong)})


if __name__ == "__main__":
    main()
