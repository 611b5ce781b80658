"""Enrols speakers, and identifies the speaker of a recording among them."""

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from mqmha_jax.atomic import making_directory
from mqmha_jax.config import NonNegative, Positive
from mqmha_jax.errors import UserError, count_noun
from mqmha_jax.features.audio import stream_audio
from mqmha_jax.features.part import Part
from mqmha_jax.features.speech_evidence import MIN_SPEECH_S
from mqmha_jax.field_checks import check_value
from mqmha_jax.inference import Audio, Observation, SpeakerEncoder, check_waveform, require_recording
from mqmha_jax.store.changes import (
    Speaker,
    add_recordings,
    count_speakers,
    list_speakers,
    merge_stores,
    remove_speaker,
)
from mqmha_jax.store.decide import Measures, Rule, likelihood_ratios
from mqmha_jax.store.enrolment import Recordings, name_recordings, observe_speech
from mqmha_jax.store.files import (
    Network,
    check_new_store,
    check_store_writable,
    is_store,
    read_network,
    write_state,
)
from mqmha_jax.store.identification import Identification, Match
from mqmha_jax.store.latest_state import LatestState
from mqmha_jax.store.roster import EMPTY, check_names, make_roster
from mqmha_jax.store.search import Centres, scale_to_unit
from mqmha_jax.store.timeline import Timeline
from mqmha_jax.store.track import track_speakers
from mqmha_jax.store.windows import embed_windows
from mqmha_jax.verification import Verification, reach_verdict

_log = logging.getLogger(__name__)


class SpeakerStore:
    """Speakers that are enrolled with recordings, in a directory.

    Any number of processes and threads may use a store at once. A writer waits for other writers; a reader
    sees the last complete state.
    """

    def __init__(self, path: Path, encoder: SpeakerEncoder, network: Network) -> None:
        """Call ``SpeakerStore.open`` or ``SpeakerStore.create`` instead."""
        self.path, self.encoder = path, encoder
        mean = np.zeros(network.dimension) if encoder.mean is None else encoder.mean
        self._mean = mean.astype(np.float32)
        self._latest = LatestState(path, network, self._mean)
        self._begins = False  # the first enrolment makes the directory

    @classmethod
    def create(cls, path: str | Path, encoder: SpeakerEncoder) -> "SpeakerStore":
        """Makes an empty store.

        Args:
          path: a directory that does not exist, or is empty.
          encoder: the network; the store works with no other.

        Raises:
          UserError: something is there already, or the directory cannot be made.
        """
        path = Path(path)
        check_new_store(path)
        network = _describe_network(encoder)
        with making_directory(path) as unfinished:
            write_state(unfinished, 0, network, EMPTY, [])
        return cls(path, encoder, network)

    @classmethod
    def open_or_create(cls, path: str | Path, encoder: SpeakerEncoder) -> "SpeakerStore":
        """Opens a store, or makes an empty one if none exists; another process may do the same at the same time.

        Args:
          path: its directory.
          encoder: the network of the store.

        Raises:
          UserError: as ``create`` and ``open``.
        """
        path = Path(path)
        if not is_store(path):
            try:
                return cls.create(path, encoder)
            except UserError:
                if not is_store(path):  # if it is one now, another process was quicker
                    raise
        return cls.open(path, encoder)

    @classmethod
    def open_or_begin(cls, path: str | Path, encoder: SpeakerEncoder) -> "SpeakerStore":
        """Opens a store; if none exists, the first ``enrol`` makes it, as soon as it has something to add.

        Args:
          path: its directory.
          encoder: the network of the store.

        Raises:
          UserError: as ``open``, or something else is there, or the directory cannot be made.
        """
        path = Path(path)
        if is_store(path):
            return cls.open(path, encoder)
        check_new_store(path)
        begun = cls(path, encoder, _describe_network(encoder))
        begun._begins = True
        return begun

    @classmethod
    def open(cls, path: str | Path, encoder: SpeakerEncoder | None = None) -> "SpeakerStore":
        """Opens a store.

        Args:
          path: its directory.
          encoder: the network that it was made with; None: loads it from the run that the store names.

        Raises:
          UserError: there is no store, it is damaged, or the network is another one.
        """
        path = Path(path)
        network = read_network(path)
        if encoder is None:
            encoder = _load_encoder(path, network)
        if difference := network.difference(_describe_network(encoder)):
            raise UserError(
                f"The speakers in {path} were enrolled with the network {network.name}; {encoder.name or encoder!r} is "
                f"another one: {difference}. Their embeddings cannot be compared. Use that network, or make a new "
                "store with this one and enrol the speakers again."
            )
        opened = cls(path, encoder, network)
        opened._latest.read()
        return opened

    def __len__(self) -> int:
        """Number of speakers."""
        return len(self._latest.read().stored.roster.speakers)

    def __contains__(self, name: object) -> bool:
        """Whether a speaker of this name is enrolled."""
        return name in self._latest.read().stored.roster.speakers

    def __repr__(self) -> str:
        """One line: where, how many, by which network."""
        roster = self._latest.read().stored.roster
        return f"<SpeakerStore {self.path}: {count_speakers(roster)}; {self._latest.network.name}>"

    def list_speakers(self) -> tuple[Speaker, ...]:
        """Lists the enrolled speakers, in the order in which they were first enrolled."""
        return list_speakers(self._latest.read().stored.roster)

    def enrol(
        self,
        name: str,
        recordings: Recordings,
        *,
        channel: int | None = None,
        min_speech_s: float = MIN_SPEECH_S,
        on_error: Callable[[UserError], object] | None = None,
        on_warning: Callable[[str], object] = _log.warning,
    ) -> Speaker:
        """Enrols a speaker, or adds recordings to one.

        The same recording of a speaker counts once, even under another name. A different recording with the same name
        is added with a number after its name. To replace a recording, remove it first (``store.remove``).

        Args:
          name: of the speaker.
          recordings: files or waveforms, as in ``SpeakerEncoder.embed``; a mapping gives them names of their own.
          channel: the channel of each file to use, from 0; None: the mean of all.
          min_speech_s: a recording with less speech is refused.
          on_error: called for each recording that cannot be used; it is left out. None: raise instead.
          on_warning: called with a sentence for each recording that is clipped, very long, enrolled already, or added
            under another name.

        Returns:
          The speaker as enrolled now.

        Raises:
          UserError: a recording cannot be used (and ``on_error`` is None) or none can, a name is empty or has control
            characters, or the store cannot be written.
        """
        check_value("name", name, str)
        check_value("min_speech_s", min_speech_s, NonNegative)
        named = name_recordings(recordings)
        check_names(name, named)
        if not self._begins:
            check_store_writable(self.path)
        observed = observe_speech(self.encoder, named, channel, min_speech_s, on_error, on_warning)
        if not observed:
            raise UserError(f"{name!r} is not enrolled: {count_noun(len(named), 'recording')} given, none can be used.")
        added = make_roster(
            name,
            tuple(observed),
            [one.seconds for one in observed.values()],
            [one.evidence.speech_s for one in observed.values()],
            now=time.time(),
        )
        vectors = np.stack([one.vector for one in observed.values()]).astype(np.float32)
        if self._begins:
            type(self).open_or_create(self.path, self.encoder)
            self._begins = False
        roster = add_recordings(self.path, added, vectors, say=on_warning)
        # Of the state that this call wrote: another process may have removed the speaker since.
        return next(speaker for speaker in list_speakers(roster) if speaker.name == name)

    def identify(
        self,
        recording: Audio,
        *,
        top_n: int = 5,
        prior: float = 0.5,
        confidence: float = 0.9,
        threshold: float | None = None,
        min_speech_s: float = MIN_SPEECH_S,
        channel: int | None = None,
        name: str | None = None,
    ) -> Identification:
        """Finds the enrolled speakers nearest to a recording.

        The calibration of the run decides if it has one, else its threshold.

        Args:
          recording: file or waveform, as in ``SpeakerEncoder.embed``.
          top_n: maximum number of matches.
          prior: prior probability that an enrolled speaker speaks; all of them are equally likely.
          confidence: the verdict is "unsure" if the likeliest answer is less probable; 0.5 to 1.
          threshold: lowest score of a match, in place of the run's calibration and threshold.
          min_speech_s: the verdict is "unsure" if the recording holds less speech than this; 0: no minimum.
          channel: the channel of the file to use, from 0; None: the mean of all.
          name: of the recording in the answer; None: its path.

        Raises:
          UserError: the recording cannot be used, or an option is out of range.
        """
        check_value("top_n", top_n, Positive)
        check_value("min_speech_s", min_speech_s, NonNegative)
        rule = self._rule(threshold, prior, confidence)
        one = self.encoder.observe(recording, name=name, channel=channel)
        if shortfall := one.evidence.shortfall(min_speech_s):
            return Identification(one.name, "unsure", (), None, rule.threshold, shortfall, one.evidence)
        state = self._latest.read()
        scores, measures = self._score(state.centres, one)
        decided = rule.decide(scores, state.centres, measures, top_n)
        chances = [None] * len(decided.nearest) if decided.probabilities is None else decided.probabilities.tolist()
        matches = tuple(
            Match(state.stored.roster.speakers[row], float(scores[row]), chance)
            for row, chance in zip(decided.nearest.tolist(), chances, strict=True)
        )
        return Identification(one.name, decided.verdict, matches, decided.nobody, decided.threshold, "", one.evidence)

    def track(
        self,
        recording: Audio,
        *,
        window_s: float = 1.5,
        hop_s: float = 0.75,
        prior: float = 0.5,
        threshold: float | None = None,
        channel: int | None = None,
        name: str | None = None,
    ) -> Timeline:
        """Finds which enrolled speaker speaks when in a recording of any length; memory hardly grows with the length.

        Args:
          recording: file or waveform, as in ``SpeakerEncoder.embed``; a file is read in blocks.
          window_s: length of the windows that are embedded.
          hop_s: from the start of one window to the next.
          prior: as in ``identify``.
          threshold: as in ``identify``.
          channel: as in ``identify``.
          name: as in ``identify``.

        Raises:
          UserError: the recording cannot be used, no threshold is known, or an option is out of range.
        """
        rule = self._rule(threshold, prior, 0.5)
        if rule.calibration is None and rule.threshold is None:
            raise UserError(
                f"The network of {self.path} has no threshold and no calibration, so nobody can match. Give a "
                "threshold, or evaluate its run with 'mqmha evaluate'."
            )
        require_recording(recording)
        label = name or ("waveform" if isinstance(recording, np.ndarray) else str(recording))
        blocks: Iterable[np.ndarray]
        if isinstance(recording, np.ndarray):
            blocks = [check_waveform(label, recording).astype(np.float32)]
        else:
            blocks = stream_audio(recording, self.encoder.config.fbank.sample_rate_hz, Part(channel=channel))
        windows = embed_windows(self.encoder, label, blocks, window_s, hop_s)
        state = self._latest.read()
        return track_speakers(label, windows, state.centres, state.stored.roster.speakers, self._mean, rule)

    def verify(
        self,
        name: str,
        recording: Audio,
        *,
        prior: float = 0.5,
        confidence: float = 0.9,
        threshold: float | None = None,
        min_speech_s: float = MIN_SPEECH_S,
        channel: int | None = None,
    ) -> Verification:
        """Decides whether a recording is of one enrolled speaker.

        Args:
          name: of the speaker.
          recording: file or waveform, as in ``SpeakerEncoder.embed``.
          prior: prior probability that it is this speaker.
          confidence: as in ``identify``.
          threshold: as in ``identify``.
          min_speech_s: as in ``identify``.
          channel: as in ``identify``.

        Raises:
          UserError: nobody of this name is enrolled, the recording cannot be used, or an option is out of range.
        """
        check_value("min_speech_s", min_speech_s, NonNegative)
        rule = self._rule(threshold, prior, confidence)
        state = self._latest.read()
        row = state.stored.roster.position(name)
        one = self.encoder.observe(recording, channel=channel)
        centre = Centres(*(column[row : row + 1] for column in state.centres))
        scores, measures = self._score(centre, one)
        llr = None
        if rule.calibration is not None:
            llr = float(likelihood_ratios(rule.calibration, scores, centre, measures)[0])
        return reach_verdict(
            float(scores[0]),
            llr,
            rule.threshold,
            prior=prior,
            confidence=confidence,
            heard=[(one.name, one.evidence)],
            min_speech_s=min_speech_s,
        )

    def remove(self, name: str, recordings: Sequence[str] = ()) -> None:
        """Removes a speaker, or some recordings of one; a speaker without recordings is gone.

        Raises:
          UserError: nobody of this name is enrolled, or not with such a recording.
        """
        remove_speaker(self.path, name, recordings)

    def merge(self, other: "SpeakerStore | str | Path") -> None:
        """Copies all speakers of another store of the same network; speakers of the same name become one.

        Raises:
          UserError: the other store was made with another network.
        """
        merge_stores(self.path, other.path if isinstance(other, SpeakerStore) else Path(other))

    def _rule(self, threshold: float | None, prior: float, confidence: float) -> Rule:
        if threshold is not None:
            rule = Rule(None, threshold, prior, confidence)
        else:
            rule = Rule(self.encoder.calibration, self.encoder.threshold, prior, confidence)
        rule.check()
        return rule

    def _score(self, centres: Centres, one: Observation) -> tuple[Float32[np.ndarray, " P"], Measures]:
        unit, norm = scale_to_unit(one.vector[None].astype(np.float32) - self._mean, [one.name])
        measures = Measures(float(np.log(norm[0, 0])), float(np.log(one.seconds)))
        return centres.vectors @ unit[0], measures


def _describe_network(encoder: SpeakerEncoder) -> Network:
    model = encoder.config.model
    return Network(
        sha256=encoder.sha256,
        dimension=model.embedding_dim,
        fbank=encoder.config.fbank,
        name=encoder.name or f"{model.encoder.name} + {model.pooling.name}, {model.embedding_dim} dimensions",
        run="" if encoder.workdir is None else str(encoder.workdir.resolve()),
        step=-1 if encoder.step is None else encoder.step,
    )


def _load_encoder(path: Path, network: Network) -> SpeakerEncoder:
    if not network.run:
        raise UserError(f"{path} names no run to load its network from ({network.name}); give one with --run RUN.")
    if not Path(network.run).is_dir():
        raise UserError(f"{path} was made with the run in {network.run}, which is not there; give its path with --run.")
    return SpeakerEncoder.load(network.run, step=network.step)
