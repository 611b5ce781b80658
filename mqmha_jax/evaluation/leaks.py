"""Speakers that are in two sets which should have none in common, such as training and trials."""

from collections.abc import Iterable

from mqmha_jax.data.shard_format import SPEED_MARK


def shared_speakers(name: str, speakers: Iterable[str], others: Iterable[str], consequence: str) -> list[str]:
    """A sentence that names the speakers which two sets share, if there are any.

    Args:
      name: of the first set.
      speakers: its speakers.
      others: those of the other set; copies at another speed count as the speaker.
      consequence: what is wrong with it, e.g. ``"were trained on: the numbers will look better than they are"``.

    Returns:
      One sentence, or none.
    """
    return _note(name, "speakers", {*speakers} & {other.split(SPEED_MARK)[0] for other in others}, consequence)


def shared_utterances(name: str, utterances: Iterable[str], others: Iterable[str], consequence: str) -> list[str]:
    """The same for ids of utterances."""
    return _note(name, "utterances", {*utterances}.intersection(others), consequence)


def _note(name: str, what: str, shared: set[str], consequence: str) -> list[str]:
    if not shared:
        return []
    named = ", ".join(map(repr, sorted(shared)[:3])) + (" and more" if len(shared) > 3 else "")
    return [f"{name}: {len(shared)} {what} ({named}) {consequence}."]
