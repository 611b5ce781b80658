"""The limits of requests, which together bound the memory of the server."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Bounds of requests.

    Attributes:
      max_bytes: of a request, all its recordings together.
      max_seconds: of a recording, after decoding.
      max_requests: being answered or waiting at the same time; the next one gets the status 503.
      upload_s: time that a request may take to arrive.
    """

    max_bytes: int = 64 << 20
    max_seconds: float = 600.0
    max_requests: int = 16
    upload_s: float = 60.0
