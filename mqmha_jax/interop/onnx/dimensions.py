"""Symbolic sizes of JAX as expressions of ONNX operators.

JAX documents how a size is written, ``2*floordiv(t + 7, 8)``, but not how it is stored, so the text is read.
"""

import ast
from typing import Any

Dimension = Any
"""An int, or a symbolic size of ``jax.export``."""

Expression = int | str | tuple[Any, ...]
"""A number, a symbol, or an operator of ONNX with its operands."""

_OPERATORS = {ast.Add: "Add", ast.Sub: "Sub", ast.Mult: "Mul"}
_FUNCTIONS = {"floordiv": "FloorDiv", "mod": "Mod", "max": "Max", "min": "Min"}


def parse_dimension(dimension: Dimension) -> Expression:
    """Reads a symbolic size."""
    return _convert(ast.parse(str(dimension).replace("^", "**"), mode="eval").body)


def _convert(node: ast.expr) -> Expression:
    match node:
        case ast.Constant(value=int(number)):
            return number
        case ast.Name(id=symbol):
            return symbol
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return ("Neg", _convert(operand))
        case ast.BinOp(left=left, op=ast.Pow(), right=ast.Constant(value=int(power))):
            return ("Mul", _convert(left), _convert(left)) if power == 2 else ("Pow", _convert(left), power)
        case ast.BinOp(left=left, op=operator, right=right) if type(operator) in _OPERATORS:
            return (_OPERATORS[type(operator)], _convert(left), _convert(right))
        case ast.Call(func=ast.Name(id=name), args=arguments) if name in _FUNCTIONS:
            return (_FUNCTIONS[name], *map(_convert, arguments))
    raise ValueError(f"cannot read {ast.unparse(node)!r} in the size of an array")
