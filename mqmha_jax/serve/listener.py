"""Listens to recordings and answers; the only part of the server that touches the network."""

from mqmha_jax.features.speech_evidence import measure_speech
from mqmha_jax.inference import SpeakerEncoder
from mqmha_jax.serve.answers import Compared, Embedded, Heard
from mqmha_jax.serve.recordings import Recording


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
        waveform = recording.decode(self.rate_hz, self.longest_s)
        (vector,) = self.encoder.embed(waveform, on_warning=lambda _: None).vectors
        heard = Heard.of(recording.name, measure_speech(waveform, self.rate_hz))
        return Embedded(embedding=vector.tolist(), recording=heard)

    def compare(self, first: Recording, second: Recording) -> Compared:
        """Compares two recordings.

        Raises:
          UserError: a recording cannot be used.
        """
        found = self.encoder.verify(*(one.decode(self.rate_hz, self.longest_s) for one in (first, second)))
        heard = list(zip((first.name, second.name), found.evidence, strict=True))
        if found.reason:  # names the recordings as the encoder does, "waveform 0"
            shortfalls = [(evidence.shortfall(), name) for name, evidence in heard]
            found = found._replace(reason=" and ".join(f"{why} in {name}" for why, name in shortfalls if why))
        return Compared(
            verdict=found.verdict,
            sentence=found.sentence(),
            score=found.score,
            threshold=found.threshold,
            probability=found.probability,
            reason=found.reason,
            recordings=[Heard.of(name, evidence) for name, evidence in heard],
        )
