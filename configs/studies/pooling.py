"""Does the pooling matter, and does MQMHA help beyond its parameters? The taxonomy of arXiv 2110.05042, section 2.

Full: temporal average, statistics, self-attentive (mean, statistics, channel- and context-dependent), heads on split
parts, queries on the whole feature (one weight or a weight per channel), and MQMHA with one and two layers and
channel-wise. Each control is statistics pooling on a wider encoder with as many parameters as the cell in its name.
Small: statistics, one head, several queries on the whole feature (scalar and channel-wise), MQMHA, and its control,
with three seeds each. Cells with several queries have two, and MQMHA has eight heads. The small scale leaves out
poolings of means only and deeper scorers: they would take the place of seeds, and seeds decide how small a difference
the study can show.

    mqmha study pooling --scale small --workdir runs/pooling --data shards --data lists
"""

from _scales import full, small

from mqmha_jax.study import Control, Factor

QUESTION = (
    "Do attentive poolings verify speakers better than plain statistics, and does MQMHA gain more than a larger "
    "network with as many parameters?"
)

STUDY = {
    "full": full(
        question=QUESTION,
        factors=(
            Factor(
                "pooling",
                {
                    "tap": ["model.pooling=tap"],
                    "tstp": ["model.pooling=tstp"],
                    "sap": ["model.pooling=sap"],
                    "asp": ["model.pooling=asp"],
                    "ccasp": ["model.pooling=ccasp"],
                    "mha": ["model.pooling=mha"],
                    "global_mha": ["model.pooling=global_mha"],
                    "vsa": ["model.pooling=vsa"],
                    "mqmha": ["model.pooling=mqmha"],
                    "mqmha-n2": ["model.pooling=mqmha", "model.pooling.layers=2"],
                    "mqmha-channels": ["model.pooling=mqmha", "model.pooling.channel_wise=true"],
                },
            ),
        ),
        reference="tstp",
        seeds=(0, 1),
        controls=(
            Control(of="mqmha", cell="tstp", option="model.encoder.width"),
            Control(of="vsa", cell="tstp", option="model.encoder.width"),
        ),
        runs=26,
    ),
    "small": small(
        question=QUESTION,
        factors=(
            Factor(
                "pooling",
                {
                    "tstp": ["model.pooling=tstp"],
                    "asp": ["model.pooling=asp"],
                    "global_mha": ["model.pooling=global_mha", "model.pooling.queries=2"],
                    "vsa": ["model.pooling=vsa", "model.pooling.queries=2"],
                    "mqmha": ["model.pooling=mqmha", "model.pooling.queries=2", "model.pooling.heads=8"],
                },
            ),
        ),
        reference="tstp",
        seeds=(0, 1, 2),
        controls=(Control(of="mqmha", cell="tstp", option="model.encoder.final_channels"),),
        runs=18,
    ),
}
