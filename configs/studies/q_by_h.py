"""How many queries and heads does MQMHA need? Q x H (arXiv 2110.05042).

The pooled vector, and with it the embedding layer, grows with the queries but not with the heads. So more heads cost
nothing, and more queries have a control: one query and head on a wider encoder with as many parameters. Full: Q and H
of 1, 4 and 16 (the challenge system had 4 and 16). Small: five cells of the grid, two seeds; only the full scale has
Q = 4 with one head and the control.

    mqmha study q_by_h --scale small --workdir runs/q_by_h --data shards --data lists
"""

from _scales import full, small

from mqmha_jax.study import Control, Factor

QUESTION = "Do more queries or more heads lower error rates?"


def grid(queries: tuple[int, ...], heads: tuple[int, ...]) -> tuple[Factor, Factor]:
    """Makes the two factors."""
    return (
        Factor("queries", {f"q{q}": ["model.pooling=mqmha", f"model.pooling.queries={q}"] for q in queries}),
        Factor("heads", {f"h{h}": [f"model.pooling.heads={h}"] for h in heads}),
    )


STUDY = {
    "full": full(
        question=QUESTION,
        factors=grid((1, 4, 16), (1, 4, 16)),
        reference="q1+h1",
        seeds=(0, 1),
        controls=(Control(of="q4+h16", cell="q1+h1", option="model.encoder.width"),),
        runs=20,
    ),
    "small": small(
        question=QUESTION,
        factors=grid((1, 2, 4), (1, 8)),
        cells=("q1+h1", "q1+h8", "q2+h1", "q2+h8", "q4+h8"),
        reference="q1+h1",
        seeds=(0, 1),
        runs=10,
    ),
}
