"""Does the inter-topK penalty help? top_k x m', with AM and AAM, with and without sub-centres (arXiv 2110.05042).

Full: a grid of top_k and m' around the usual 5 and .06 under AM with three sub-centres, the penalty above the previous
batch's mean, and the penalty on and off under AAM and with one centre per speaker. Small: on and off under AM and AAM
with three seeds and one centre, which compares six runs with the penalty and six without. With so little speech per
speaker a second centre did harm on held-out training speakers (docs/learning.md, "What did not help"), and a grid of
top_k and m' would have only one run per cell.

    mqmha study inter_topk --scale small --workdir runs/inter_topk --data shards --data lists
"""

from _scales import full, small

from mqmha_jax.study import Factor

QUESTION = "Does the penalty on the nearest other speakers lower error rates, and does it do so for either margin?"

LOSS = Factor("loss", {"am": ["loss.name=am"], "aam": ["loss.name=aam"]})
OFF, USUAL = "off", "k5-m0.06"
GRID = {f"k{k}-m{m}": [f"loss.top_k={k}", f"loss.penalty={m}"] for k in (1, 5, 20) for m in (0.03, 0.06, 0.12)}
PENALTY = {
    OFF: ["loss.top_k=0", "loss.penalty=0"],
    **GRID,
    "above-mean": ["loss.top_k=5", "loss.penalty=0.06", "loss.penalised=above_mean"],
}

STUDY = {
    "full": full(
        question=QUESTION,
        factors=(
            LOSS,
            Factor("centres", {"c1": ["loss.sub_centres=1"], "c3": ["loss.sub_centres=3"]}),
            Factor("penalty", PENALTY),
        ),
        cells=(
            *(f"am+c3+{level}" for level in PENALTY),
            *(f"{rest}+{level}" for rest in ("am+c1", "aam+c1", "aam+c3") for level in (OFF, USUAL)),
        ),
        reference=f"am+c3+{OFF}",
        seeds=(0, 1),
        runs=34,
    ),
    "small": small(
        question=QUESTION,
        factors=(LOSS, Factor("penalty", {level: PENALTY[level] for level in (OFF, USUAL)})),
        reference=f"am+{OFF}",
        seeds=(0, 1, 2),
        runs=12,
    ),
}
