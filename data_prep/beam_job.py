"""Makes the pieces of a corpus with Apache Beam's workers, on any of its runners.

Beam needs an environment of its own (``requirements-beam.txt``), and a disk that all workers see under one path. The
files are the same as those of any other way to run.
"""

import functools
import shlex
from collections.abc import Callable, Generator, Iterable

from data_prep.build_shards import Piece, Run
from mqmha_jax.errors import UserError


def beam_run(options: str) -> Run:
    """The ``run`` of ``build_shards`` that hands pieces to Beam.

    Args:
      options: options of Beam, as on its command line, such as ``"--runner=FlinkRunner --flink_master=..."``.

    Raises:
      UserError: Apache Beam is not installed.
    """
    try:
        import apache_beam  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"--beam needs Apache Beam ({error}), which needs an environment of its own: "
            "pip install -r data_prep/requirements-beam.txt && pip install --no-deps -e ."
        ) from error
    return functools.partial(_run, options=shlex.split(options))


def _run(function: Callable[[Piece], None], pieces: Iterable[Piece], options: list[str]) -> Generator[None, None, None]:
    import apache_beam as beam
    from apache_beam.options.pipeline_options import PipelineOptions

    items = list(pieces)
    pipeline = beam.Pipeline(options=PipelineOptions(options))
    # Reshuffled, or a runner may fuse both steps and do everything in one worker.
    _ = pipeline | "pieces" >> beam.Create(items) | beam.Reshuffle() | "shards" >> beam.Map(function)
    try:
        pipeline.run().wait_until_finish()
    except Exception as error:  # runners wrap what a worker raised, each in its own way
        raise UserError(f"The Beam pipeline failed. Finished parts stay. {error}") from error
    yield from (None for _ in items)
