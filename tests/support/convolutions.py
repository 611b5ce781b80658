"""The convolutions in a lowered program, and whether cuDNN computes them in their fastest layout and type."""

import re

_FOUND = re.compile(r"stablehlo\.convolution\(.*dim_numbers = (.*), window = .* : \((.*), (.*)\) -> (tensor<\S+>)")
FORWARD = {"[b, 0, 1, f]x[0, 1, i, o]->[b, 0, 1, f]", "[b, 0, f]x[0, i, o]->[b, 0, f]"}
# XLA makes cuDNN's own gradient operations of these.
OF_INPUT = {"[b, 0, 1, f]x[0, 1, o, i]->[b, 0, 1, f]", "[b, 0, f]x[0, o, i]->[b, 0, f]"}
OF_KERNEL = {"[f, 0, 1, b]x[i, 0, 1, o]->[0, 1, b, f]", "[f, 0, b]x[i, 0, o]->[0, b, f]"}


def check_convolutions(text: str, element: str, *, gradient: bool) -> int:
    """Asserts that maps are channels-last and that all operands and results have one type; counts the convolutions.

    Args:
      text: StableHLO.
      element: the type, "bf16" or "f32".
      gradient: the program computes a gradient too.
    """
    found = _FOUND.findall(text)
    assert len(found) == text.count("stablehlo.convolution(")
    forms = {dimensions for dimensions, *_ in found}
    assert forms <= (FORWARD | OF_INPUT | OF_KERNEL if gradient else FORWARD), forms
    if gradient and found:
        assert forms & FORWARD
        assert forms & OF_KERNEL
    for _, *tensors in found:
        # cuDNN accumulates in float32 by itself; a result in float32 would cost a conversion of its own.
        assert all(tensor.endswith(f"x{element}>") for tensor in tensors), tensors
    return len(found)
