"""Reads the text of a compiled XLA program; no other code of the plan knows how XLA writes.

XLA promises nothing about this text. ``text.py`` reads lines into instructions, ``groups.py`` reads the devices of a
collective, ``program.py`` follows calls and loops. All of them raise :class:`HloNotUnderstoodError` rather than guess;
tests read stored programs of two versions of jax and libtpu.
"""

from mqmha_jax.plan.hlo.groups import read_groups
from mqmha_jax.plan.hlo.program import Program, parse_hlo
from mqmha_jax.plan.hlo.text import Buffer, Computation, HloNotUnderstoodError, Instruction
