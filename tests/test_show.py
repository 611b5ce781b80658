"""What ``mqmha show`` lists and counts: options of parts, parameters of the head, learned scalars, FLOPs of scans."""

import re
from pathlib import Path

import pytest

from mqmha_jax.config_io import with_overrides
from mqmha_jax.errors import UserError
from mqmha_jax.show import describe
from tests.support.tiny import tiny_config


def rows_of(text: str, section: str) -> dict[str, list[str]]:
    table = text.partition(f"\n{section}")[2].partition("\n\n")[0]
    return {line.split()[0]: line.split()[1:] for line in table.splitlines() if len(line.split()) > 1}


def test_every_option_of_a_part_is_listed_with_its_value_and_its_default() -> None:
    pairs = 'loss.pairs=[{"name": "ge2e", "weight": 0.5, "options": {"scale": 8}}]'
    parts = ["model.encoder=xvector", "model.encoder.channels=32", "model.pooling=ccasp", "loss.name=aam", pairs]
    text = describe(with_overrides(tiny_config({}), parts))
    rows = rows_of(f"\n{text}", "option")
    assert rows["model.encoder"][:2] == ["xvector", "resnet34"]
    assert rows["model.encoder.channels"] == ["32", "512", "option", "of", "xvector"]
    assert rows["model.encoder.edges"] == ["dropped", "option", "of", "xvector"]  # the default of this name
    assert rows["model.pooling.bottleneck"] == ["128", "option", "of", "ccasp"]
    assert rows["loss.options.easy_margin"] == ["False", "option", "of", "aam"]
    assert "ge2e(weight=0.5, scale=8.0, offset=-5.0)" in text
    assert not {"model.encoder.compute", "model.encoder.name", "model.pooling.batch_norm_groups"} & rows.keys()


def test_options_of_own_code_are_listed(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from mqmha_jax.losses import Margin\n\n\n"
        "def soft(power, slope: float = 2.0, **others):\n    return Margin(lambda cosine, margin, example: cosine)\n"
    )
    loss = [f"loss.name={tmp_path / 'mine.py'}:soft", "loss.options.power=3"]
    rows = rows_of(f"\n{describe(with_overrides(tiny_config({}), loss))}", "option")
    listed = {name: row[0] for name, row in rows.items() if name.startswith("loss.options.")}
    assert listed == {"loss.options.power": "3", "loss.options.slope": "2.0"}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("loss.name=nonsense", r"Unknown loss 'nonsense'\. Valid: a_softmax, aam, "),
        ("loss.options.foo=3", r"Unknown option of loss 'am': 'foo'\. There is none to set"),
        ('loss.pairs=[{"name": "ge2e", "options": {"scal": 1}}]', r"Unknown option of loss over pairs 'ge2e': 'scal'"),
        ("loss.weight=0", r"The loss trains nothing: loss\.weight is 0"),
    ],
)
def test_the_loss_is_checked_without_a_number_of_speakers(override: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        describe(with_overrides(tiny_config({}), [override]))


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
