"""The learning rate of the small studies, chosen on training speakers that were held out.

    python benchmarks/real_speech.py SPEECH WORK --hold-out train.steps=1      # makes the shards and lists of the split
    mqmha study docs/studies/settings/settings.py --workdir runs/settings --data WORK

Kept: 0.002. The report was measured with an earlier split: a fifth of the speakers, all in one list.
"""

from pathlib import Path

from mqmha_jax.study import Budget, Factor, Study, TrialList
from mqmha_jax.study.spec import load_study

SETS = ("arabic_sc30", "dsp34", "libri252_cut4", "wuw2")

STUDY = Study(
    question="Which learning rate suits runs of this length, with the plainest and with the fullest system?",
    base=load_study(Path("inter_topk"), "small").base,
    factors=(
        Factor("system", {"plain": ["model.pooling=tstp", "loss.top_k=0", "loss.penalty=0"], "full": []}),
        Factor("rate", {f"{r:g}": [f"optimizer.learning_rate={r}"] for r in (0.001, 0.002, 0.004)}),
    ),
    reference="plain+0.002",
    seeds=(0,),
    train="train_held_out",
    lists=tuple(TrialList(f"held_out/{name}.trials", shards="dev") for name in SETS),
    budget=Budget(6, minutes_per_run=6.0),
)
