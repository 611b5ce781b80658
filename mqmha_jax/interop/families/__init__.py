"""Families of foreign networks, by name: one file and one line each.

A file defines ``FAMILY``, a :class:`mqmha_jax.interop.family.Family`. Its test is one line in ``REFERENCES`` of
``tests/interop/test_import_model.py``.
"""

from mqmha_jax.interop.families import (
    campplus,
    res2net,
    speechbrain_ecapa,
    wespeaker_ecapa,
    wespeaker_redimnet,
    wespeaker_repvgg,
    wespeaker_resnet,
    wespeaker_simam,
    wespeaker_xvector,
)
from mqmha_jax.interop.family import Family

FAMILIES: dict[str, Family] = {
    "3dspeaker_campplus": campplus.THREE_D_SPEAKER,  # before WeSpeaker's, which has the same names of tensors
    "wespeaker_campplus": campplus.WESPEAKER,
    "wespeaker_resnet": wespeaker_resnet.FAMILY,
    "wespeaker_ecapa": wespeaker_ecapa.FAMILY,
    "wespeaker_xvector": wespeaker_xvector.FAMILY,
    "wespeaker_res2net": res2net.FAMILY,
    "3dspeaker_eres2netv2": res2net.V2_FAMILY,
    "wespeaker_repvgg": wespeaker_repvgg.FAMILY,
    "wespeaker_simam": wespeaker_simam.FAMILY,
    "wespeaker_redimnet": wespeaker_redimnet.FAMILY,
    "speechbrain_ecapa": speechbrain_ecapa.FAMILY,
}
