"""Writes a function of JAX as an ONNX graph: one small file per kind of primitive."""

from mqmha_jax.interop.onnx.convert import convert_jaxpr
from mqmha_jax.interop.onnx.graph import Graph
