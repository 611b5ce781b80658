"""What do the penalty, sub-centres and MQMHA give once the network has converged? (arXiv 2110.05042)

The penalty moves the nearest other speakers away. While the network still confuses the training speakers, the margin
does that already. So these runs are few and long: at their end the network recognises about nine of ten training crops
(the report's training curves).

The reference is MQMHA with the penalty and one centre per speaker. Each other cell changes one part: no penalty, two
centres, or plain statistics on a wider encoder with as many parameters.

Small: clean recordings of a small corpus of real speech. Synthetic: 2,000 synthetic voices, so that speech is
plentiful.

    mqmha prep csv LIST shards/train_clean
    mqmha study converged --scale small --workdir runs/converged --data shards --data lists

    mqmha prep synthetic shards/train --num-speakers 2000 --sessions-per-speaker 3 --utterances-per-session 4
    mqmha prep synthetic shards/eval --num-speakers 200 --first-speaker 2000
    mqmha make-trials shards/eval lists/eval.trials
    mqmha study converged --scale synthetic --workdir runs/converged_synthetic --data shards --data lists
"""

from typing import Any

from _scales import SMALL, SMALL_LISTS

from mqmha_jax.config_io import load_config, with_overrides
from mqmha_jax.study import Budget, Control, Factor, Study, TrialList

FACTORS = (
    Factor(
        "pooling",
        {
            "mqmha": ["model.pooling=mqmha", "model.pooling.heads=8", "model.pooling.queries=2"],
            "tstp": ["model.pooling=tstp"],
        },
    ),
    Factor("penalty", {"on": ["loss.top_k=5", "loss.penalty=0.06"], "off": ["loss.top_k=0", "loss.penalty=0"]}),
    Factor("centres", {"c1": ["loss.sub_centres=1"], "c2": ["loss.sub_centres=2"]}),
)
REFERENCE = "mqmha+on+c1"


def study(**parts: Any) -> Study:
    """Makes the study on one kind of data; ``parts`` are the other arguments of ``Study``."""
    return Study(
        question="Once the network recognises its training speakers, what do the penalty, sub-centres and MQMHA give?",
        factors=FACTORS,
        cells=(REFERENCE, "mqmha+off+c1", "mqmha+on+c2"),
        reference=REFERENCE,
        controls=(Control(of=REFERENCE, cell="tstp+on+c1", option="model.encoder.final_channels"),),
        **parts,
    )


STUDY = {
    "small": study(
        base=with_overrides(SMALL, ["train.steps=1200", "train.checkpoint_every=400"]),
        train="train_clean",
        lists=SMALL_LISTS,
        seeds=(0, 1, 2),
        budget=Budget(runs=12, minutes_per_run=4.0),
    ),
    "synthetic": study(
        base=load_config("demo", ["train.steps=4000", "train.checkpoint_every=1000", "train.keep_checkpoints=1"]),
        train="train",
        lists=(TrialList("eval.trials", shards="eval"),),
        seeds=(0, 1),
        budget=Budget(runs=8, minutes_per_run=12.0),
    ),
}
