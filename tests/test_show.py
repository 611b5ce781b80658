"""What ``mqmha show`` counts: parameters of the head, learned scalars of losses, FLOPs of scans."""

import re
from pathlib import Path

from mqmha_jax.config_io import with_overrides
from mqmha_jax.show import describe
from tests.support.tiny import tiny_config


def rows_of(text: str, section: str) -> dict[str, list[str]]:
    table = text.partition(f"\n{section}")[2].partition("\n\n")[0]
    return {line.split()[0]: line.split()[1:] for line in table.splitlines() if len(line.split()) > 1}


def test_a_learned_scalar_of_a_loss_counts_once() -> None:
    pairs = 'loss.pairs=[{"name": "ge2e"}]'
    text = describe(with_overrides(tiny_config({}), ["loss.name=sphereface2", "loss.sub_centres=2", pairs]), 300)
    rows = rows_of(text, "parameters")
    assert rows["head/prototypes"] == ["1", f"{300 * 2 * 6:,}"]
    assert rows["head/sphereface2/bias"] == ["1", "1"]
    assert rows["head/ge2e/scale"] == ["1", "1"]


def test_the_flops_of_an_encoder_with_a_scan_grow_with_its_length(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import flax.linen as nn\nimport jax.numpy as jnp\nfrom jax import lax\n\n\n"
        "class Scanned(nn.Module):\n    compute: object\n    steps: int = 1\n\n"
        "    @nn.compact\n    def __call__(self, fbank, mask, *, train):\n"
        "        w = self.param('w', nn.initializers.ones, (fbank.shape[-1], fbank.shape[-1]))\n"
        "        frames = lax.scan(lambda x, _: (x @ w, None), fbank, length=self.steps)[0]\n"
        "        return frames, mask\n"
    )

    def gigaflops(steps: int) -> float:
        encoder = [f"model.encoder={tmp_path / 'mine.py'}:Scanned", f"model.encoder.steps={steps}"]
        config = with_overrides(tiny_config({}), ["data.crop_frames=2000", *encoder])
        found = re.search(r"forward pass: ([\d.]+) GFLOP", describe(config))
        assert found
        return float(found[1])

    one_step = 2 * 2000 * 8 * 8 / 1e9
    assert abs((gigaflops(101) - gigaflops(1)) - 100 * one_step) < 0.002


def test_a_pooling_whose_train_has_no_default_is_shown(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "from flax import linen as nn\n"
        "class Mean(nn.Module):\n"
        "    def __call__(self, frames, mask, *, train):\n"
        "        return frames.mean(axis=1)\n"
    )
    text = describe(with_overrides(tiny_config({}), [f"model.pooling={tmp_path}/own.py:Mean"]), 5)
    assert "pooled" in text
