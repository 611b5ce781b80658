"""Speakers or utterances that two sets share but should not, such as training and trials."""

from collections.abc import Iterable

from mqmha_jax.data.shard_format import SPEED_MARK
from mqmha_jax.errors import count_noun


def shared_speakers(name: str, speakers: Iterable[str], others: Iterable[str], where: str) -> list[str]:
    """Names the speakers that two sets share.

    Args:
      name: of the first set.
      speakers: its speakers.
      others: those of the other set; copies at another speed count as the speaker.
      where: the other set, and what follows, e.g. ``"the training set: the numbers look better than they are"``.

    Returns:
      One sentence; none if they share no speaker.
    """
    return _note(name, "speaker", {*speakers} & {other.split(SPEED_MARK)[0] for other in others}, where)


def shared_utterances(name: str, utterances: Iterable[str], others: Iterable[str], where: str) -> list[str]:
    """Names the utterances that two sets share; arguments as for ``shared_speakers``."""
    return _note(name, "utterance", {*utterances}.intersection(others), where)


def _note(name: str, what: str, shared: set[str], where: str) -> list[str]:
    if not shared:
        return []
    named = ", ".join(map(repr, sorted(shared)[:3])) + (" and more" if len(shared) > 3 else "")
    return [f"{name}: {count_noun(len(shared), what)} ({named}) {'is' if len(shared) == 1 else 'are'} also in {where}."]
