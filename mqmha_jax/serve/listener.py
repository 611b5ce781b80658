"""Answers questions about recordings; the only part of the server that uses the network."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
from jaxtyping import Float32

from mqmha_jax.errors import UserError
from mqmha_jax.inference import SpeakerEncoder
from mqmha_jax.serve.answers import Compared, Embedded, Enrolled, Heard, Identified
from mqmha_jax.serve.recordings import Recording
from mqmha_jax.store.speaker_store import SpeakerStore


class Listener:
    """Decodes recordings and asks the network about them."""

    def __init__(self, encoder: SpeakerEncoder, longest_s: float) -> None:
        """Combines a network with the longest recording that it listens to."""
        self.encoder = encoder
        self.longest_s = longest_s
        self.rate_hz = encoder.config.fbank.sample_rate_hz

    def embed(self, recording: Recording) -> Embedded:
        """Embeds a recording.

        Raises:
          UserError: the recording cannot be used.
        """
        one = self.encoder.observe(self._decode(recording), name=recording.name)
        return Embedded(embedding=one.vector.tolist(), recording=Heard.of(recording.name, one.evidence))

    def compare(self, first: Recording, second: Recording) -> Compared:
        """Compares two recordings.

        Raises:
          UserError: a recording cannot be used.
        """
        names = first.name, second.name
        found = self.encoder.verify(self._decode(first), self._decode(second), names=names)
        return Compared(
            verdict=found.verdict,
            sentence=found.sentence(),
            score=found.score,
            threshold=found.threshold,
            probability=found.probability,
            reason=found.reason,
            recordings=[Heard.of(*heard) for heard in zip(names, found.evidence, strict=True)],
        )

    def enrol(self, store: SpeakerStore, name: str, recordings: Sequence[Recording]) -> Enrolled:
        """Enrols a speaker, or adds recordings to one: all of them or, after a mistake, none.

        Raises:
          UserError: a recording cannot be used, or the store cannot be written.
        """
        names = {one.unique_name: one.name for one in recordings}
        warnings: list[str] = []
        waveforms: dict[str, Float32[np.ndarray, " n"]] = {}
        with _rename(names):
            for one in recordings:
                if one.unique_name in waveforms:
                    warnings.append(f"{one.name}: the request holds this recording more than once; it counts once.")
                else:
                    waveforms[one.unique_name] = self._decode(one)
            speaker = store.enrol(name, waveforms, on_warning=warnings.append)
        return Enrolled.of(speaker, [_replace_all(warning, names) for warning in warnings])

    def identify(self, store: SpeakerStore, recording: Recording, top_n: int) -> Identified:
        """Finds the enrolled speakers whom a recording sounds like.

        Raises:
          UserError: the recording cannot be used.
        """
        return Identified.of(store.identify(self._decode(recording), top_n=top_n, name=recording.name))

    def _decode(self, recording: Recording) -> Float32[np.ndarray, " n"]:
        return recording.decode(self.rate_hz, self.longest_s)


@contextmanager
def _rename(names: Mapping[str, str]) -> Iterator[None]:
    """Names recordings in error messages as the client does."""
    try:
        yield
    except UserError as error:
        raise type(error)(_replace_all(str(error), names)) from error


def _replace_all(text: str, names: Mapping[str, str]) -> str:
    for name, other in names.items():
        text = text.replace(name, other)
    return text
