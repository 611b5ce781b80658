"""Families of foreign networks, by name: one file and one line each.

A file defines ``FAMILY``, a :class:`mqmha_jax.interop.family.Family`. Its test is one line in ``REFERENCES`` of
``tests/interop/test_import_model.py``.
"""

from mqmha_jax.interop.families import wespeaker_ecapa, wespeaker_resnet, wespeaker_xvector
from mqmha_jax.interop.family import Family

FAMILIES: dict[str, Family] = {
    "wespeaker_resnet": wespeaker_resnet.FAMILY,
    "wespeaker_ecapa": wespeaker_ecapa.FAMILY,
    "wespeaker_xvector": wespeaker_xvector.FAMILY,
}
