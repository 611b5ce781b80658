"""Writes a trained network as an ONNX file."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from mqmha_jax.atomic import write_bytes
from mqmha_jax.config import Config
from mqmha_jax.errors import missing_extra
from mqmha_jax.interop.embedding_program import EmbeddingProgram

OUTPUT = "embedding"


def write_onnx(path: Path, program: EmbeddingProgram, metadata: Mapping[str, str]) -> None:
    """Writes an ONNX file with the optional input of lengths, by default the whole row, and the output "embedding".

    Args:
      path: of the file.
      program: the network.
      metadata: properties of the model.

    Raises:
      UserError: the package onnx is missing, the network uses a primitive that has no counterpart in ONNX, or the file
        cannot be written.
    """
    try:
        import onnx.helper

        from mqmha_jax.interop.onnx import Graph, convert_jaxpr
    except ImportError:
        raise missing_extra("An ONNX file needs the package onnx", "export") from None
    jaxpr = jax.make_jaxpr(program.function)(*program.arguments)
    graph = Graph()
    values = program.arguments[0]
    inputs: list[Any] = [graph.add_input(program.names[0], values.dtype, values.shape)]
    if len(program.names) > 1:
        whole = np.array([np.iinfo(np.int64).max])  # one number broadcasts to all rows
        lengths = graph.add_input(program.names[1], np.int64, (program.names[1],), default=whole)
        lengths = graph.add("Min", lengths, graph.size(values.shape[1]))
        rows = graph.add("Expand", lengths, graph.size(values.shape[0]))
        inputs.append(graph.add("Cast", rows, to=onnx.TensorProto.INT32))
    (embedding,) = convert_jaxpr(graph, jaxpr, inputs)
    (result,) = jaxpr.out_avals
    model = graph.to_model({OUTPUT: (embedding, result.dtype, result.shape)})
    onnx.helper.set_model_props(model, dict(metadata))
    write_bytes(path, model.SerializeToString())


def describe_network(config: Config, program: EmbeddingProgram, *, step: int) -> dict[str, str]:
    """Returns the metadata of a file: features and network, and for filterbank input the keys of sherpa-onnx."""
    fbank, model = config.fbank, config.model
    source = program.names[0]
    known = {
        "framework": "mqmha_jax",
        "sample_rate": str(fbank.sample_rate_hz),
        "output_dim": str(model.embedding_dim),
        "input": source,
        "step": str(step),
        "encoder": model.encoder.name,
        "pooling": model.pooling.name,
        "feature_type": "fbank",
        "mean_normalization": "inside the file",
        **{f"fbank_{name}": json.dumps(value) for name, value in dataclasses.asdict(fbank).items()},
    }
    if source == "waveform":
        return known
    sherpa = {
        "framework": "wespeaker",  # sherpa-onnx refuses other names; it means one input, one output, filterbank
        "language": "any",
        "url": "",
        "comment": f"{model.encoder.name} + {model.pooling.name}, exported by mqmha_jax",
        "normalize_samples": "0",
        "feature_normalize_type": "global-mean",
        "window_type": fbank.window,
    }
    return known | sherpa
