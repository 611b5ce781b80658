"""Balanced trial lists for your own corpus: same-speaker pairs across sessions, and different-speaker pairs."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from mqmha_jax.data.ids import check_spellings
from mqmha_jax.data.lists import write_trials as write_trials
from mqmha_jax.data.metadata import Metadata, read_metadata, shard_metadata
from mqmha_jax.data.shard_reader import open_shards
from mqmha_jax.errors import UserError, count_noun, unknown_name
from mqmha_jax.evaluation.leaks import shared_speakers
from mqmha_jax.runs.workdir import has_speakers, read_speakers
from mqmha_jax.types import Trials

NO_COLUMN = "none"
"""In place of the name of a column: pair without regard to sessions, or to genders."""

# The numbers of up to this many pairs (32 MiB) are shuffled, as in earlier versions, so their lists stay the same. Of
# more numbers, some are chosen.
_MAX_SHUFFLED = 1 << 22


def make_trials(
    utt2spk: Mapping[str, str],
    utt2session: Mapping[str, str] | None = None,
    spk2gender: Mapping[str, str] | None = None,
    *,
    per_speaker: int = 200,
    seed: int = 0,
) -> Trials:
    """Draws trials, the same number for every speaker that has enough pairs.

    Args:
      utt2spk: speaker of each utterance.
      utt2session: session of each utterance. Targets then pair different sessions, so a speaker with one session gets
        no targets. None pairs any two utterances of a speaker.
      spk2gender: gender of the speakers. Nontargets then pair speakers of one gender, which is harder; a speaker whom
        it lacks is paired with any other. None pairs any two speakers.
      per_speaker: maximum number of target trials, and of nontarget trials, per enrolled speaker.
      seed: of the draw.

    Returns:
      Targets, then nontargets; each pair appears once, as ``(a, b)`` or as ``(b, a)``.

    Raises:
      UserError: fewer than two speakers, no speaker with two utterances to pair, or no two speakers of one gender.
    """
    by_speaker: dict[str, list[str]] = {}
    for utterance, speaker in sorted(utt2spk.items()):
        by_speaker.setdefault(speaker, []).append(utterance)
    if len(by_speaker) < 2:
        raise UserError(f"A trial list needs at least two speakers, and the data has {len(by_speaker)}. Add speakers.")
    rng = np.random.default_rng(seed)
    everybody = sorted(by_speaker)
    groups: dict[str, list[str]] = {}
    for speaker in everybody:
        if gender := (spk2gender or {}).get(speaker):
            groups.setdefault(gender, []).append(speaker)
    place = {speaker: (group, i) for group in (everybody, *groups.values()) for i, speaker in enumerate(group)}
    targets: list[tuple[str, str]] = []
    nontargets: dict[tuple[str, str], None] = {}
    for speaker in everybody:
        own = by_speaker[speaker]
        targets += _draw_pairs(own, own if utt2session is None else [utt2session[u] for u in own], per_speaker, rng)
        group, i = place[speaker]
        for _ in range(per_speaker if len(group) > 1 else 0):
            other = group[(i + int(rng.integers(1, len(group)))) % len(group)]
            a, b = own[rng.integers(len(own))], by_speaker[other][rng.integers(len(by_speaker[other]))]
            nontargets[min(a, b), max(a, b)] = None
    if not targets:
        raise UserError(
            "No speaker has two utterances"
            + ("" if utt2session is None else " from different sessions")
            + ", so there is no target trial. Add recordings, or leave the sessions out (--session none)."
        )
    if not nontargets:
        raise UserError(
            "No two speakers have the same gender, so there is no nontarget trial. Leave the gender out "
            "(--gender none)."
        )
    pairs = [*targets, *nontargets]
    return Trials(
        enrol=tuple(a for a, _ in pairs),
        test=tuple(b for _, b in pairs),
        target=np.arange(len(pairs)) < len(targets),
    )


def _draw_pairs(
    utterances: Sequence[str], sessions: Sequence[str], count: int, rng: np.random.Generator
) -> list[tuple[str, str]]:
    """Draws pairs of utterances of different sessions, each at most once.

    The pairs are numbered in the order of ``itertools.combinations``. Only numbers are drawn, because a speaker with
    10,000 utterances has 50 million pairs.

    Args:
      utterances: N of one speaker.
      sessions: N, of each utterance.
      count: maximum number of pairs.
      rng: generator of the draw.
    """
    codes = np.unique(sessions, return_inverse=True)[1]
    num_after = np.empty(len(codes), np.int64)  # later utterances of another session: the second of a pair
    later: Counter[int] = Counter()
    for i in reversed(range(len(codes))):
        num_after[i] = len(codes) - 1 - i - later[codes[i]]
        later[codes[i]] += 1
    ends = np.cumsum(num_after)
    total = int(ends[-1])
    shuffled = total <= max(_MAX_SHUFFLED, count)
    numbers = rng.permutation(total)[:count] if shuffled else rng.choice(total, count, replace=False)
    pairs = []
    for number in numbers:
        i = int(np.searchsorted(ends, number, side="right"))
        after = i + 1 + np.flatnonzero(codes[i + 1 :] != codes[i])
        pairs.append((utterances[i], utterances[after[number - ends[i]]]))  # counted from the end: -1 is the last
    return pairs


def draw_trials(
    data: Path,
    *,
    session: str | None = None,
    gender: str | None = None,
    per_speaker: int = 200,
    seed: int = 0,
    not_in: Path | None = None,
) -> tuple[Trials, str]:
    """Draws a list over data on disk, as hard as its columns allow.

    Args:
      data: shards, or a CSV file (or ``utt2spk``), see ``read_metadata``.
      session: column of the sessions, or ``NO_COLUMN``; None: ``session``, if there is such a column. An utterance
        without a value is a session of its own.
      gender: column of the genders, or ``NO_COLUMN``; None: ``gender``, if there is such a column. A speaker without a
        value is paired with speakers of any gender.
      per_speaker: as in ``make_trials``.
      seed: of the draw.
      not_in: work directory or shards of a training that must share no speaker with the list.

    Returns:
      The trials, and a sentence that says how they were paired.

    Raises:
      UserError: as ``make_trials``; or there is no such column, speakers are unknown or look the same, one has two
        genders, or ``not_in`` has some of them.
    """
    if data.is_file():
        known = read_metadata(data, every_speaker=True)
    else:
        known = shard_metadata(open_shards(data, original_speed_only=True))
        check_spellings(dict.fromkeys(known.utt2spk.values()), f"speakers in {data}")  # earlier versions let them pass
    if not known.utt2spk:
        raise UserError(f"{data}: no column speaker. Trials need the speaker of each utterance.")
    if not_in is not None:
        trained = read_speakers(not_in) if has_speakers(not_in) else open_shards(not_in).speakers
        for note in shared_speakers(str(data), known.utt2spk.values(), trained, str(not_in)):
            raise UserError(f"{note} Leave them out of one of the two.")
    known = _one_version(known)
    sessions = _choose_column(known, "session", session)
    utt2session = None if sessions is None else {u: sessions[u] or u for u in known.utt2spk}  # none: its own
    genders = _choose_column(known, "gender", gender)
    spk2gender = None if genders is None else _speaker_genders(known.utt2spk, genders, data)
    trials = make_trials(known.utt2spk, utt2session, spk2gender, per_speaker=per_speaker, seed=seed)
    num_targets = int(trials.target.sum())
    num_nontargets = len(trials.target) - num_targets
    num_speakers = len(set(known.utt2spk.values()))
    unknown = num_speakers - len(spk2gender) if spk2gender else 0
    return trials, (
        f"{count_noun(num_targets, 'target trial')} {'across sessions' if utt2session else 'of any sessions'}, "
        f"{count_noun(num_nontargets, 'nontarget trial')} {'within genders' if spk2gender else 'of any genders'}, "
        f"{count_noun(num_speakers, 'speaker')}."
        + (f" Those of unknown gender ({unknown:,}) are paired with speakers of any gender." if unknown else "")
    )


def _speaker_genders(utt2spk: Mapping[str, str], genders: Mapping[str, str], data: Path) -> dict[str, str]:
    """The gender of each speaker who has one; utterances without a value do not count, nor does upper or lower case."""
    spk2gender: dict[str, str] = {}
    for utterance, speaker in utt2spk.items():
        gender = genders[utterance].casefold()
        if gender and spk2gender.setdefault(speaker, gender) != gender:
            raise UserError(
                f"{data}: speaker {speaker!r} has the genders {spk2gender[speaker]!r} and {gender!r}, and nontarget "
                "trials pair speakers of equal gender. Give each speaker one, or leave the gender out (--gender none)."
            )
    return spk2gender


def _one_version(known: Metadata) -> Metadata:
    """Leaves one version of each recording, the clean one if there is any: no trial pairs a recording with its copy.

    A column of this name may also be the user's own, such as the release of a corpus; then all utterances stay.
    """
    from data_prep.versions import AUGMENTATIONS  # here: reads audio, which the trials of a table need not

    versions = _column(known, "version") or {}
    present = set(versions.values())
    if len(present) < 2 or not present <= AUGMENTATIONS.keys():
        return known
    kept = "clean" if "clean" in present else min(present)
    return known._replace(utt2spk={u: speaker for u, speaker in known.utt2spk.items() if versions.get(u) == kept})


def _choose_column(known: Metadata, default: str, named: str | None) -> dict[str, str] | None:
    """The column that the user named, which must have values, or else the default one, which need not exist."""
    if named == NO_COLUMN:
        return None
    values = _column(known, named or default)
    if named and named not in known.columns:
        raise unknown_name(f"{default} column", named, [*known.columns, NO_COLUMN])
    if named and values is None:
        raise UserError(f"The {default} column {named!r} is empty. Fill it in, or leave it out (--{default} none).")
    return values


def _column(known: Metadata, name: str) -> dict[str, str] | None:
    """A column as strings without blanks around them, "" where unknown; None if it is missing or empty."""
    column = known.columns.get(name, {})
    values = {utterance: str(column.get(utterance, "")).strip() for utterance in known.utt2spk}
    return values if any(values.values()) else None
