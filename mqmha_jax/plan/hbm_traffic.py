"""Bytes that a compiled program reads from and writes to main memory, every pass of its loops included."""

from collections.abc import Iterable

from mqmha_jax.plan.hlo import Computation, Instruction, Program

# Instructions that name, forward or wait for memory without touching it.
_FREE = {"parameter", "constant", "tuple", "get-tuple-element", "bitcast", "while", "conditional", "call", "iota"}
_SLICES = {"dynamic-slice", "slice", "gather"}


def count_hbm_bytes(program: Program) -> int:
    """Counts the bytes of one run of a program.

    Each executed instruction reads its operands and writes its result once, a fusion as a whole. Of a sliced operand
    only the slice counts. Arrays count with the padding of their layout; arrays in the memory beside the arithmetic do
    not count.
    """
    return sum(
        program.runs[name] * instruction_bytes(instruction, program.computations[name], program)
        for name, instruction in program.instructions()
        if name not in program.fused
    )


def instruction_bytes(instruction: Instruction, computation: Computation, program: Program) -> int:
    """Counts the bytes of one run of an instruction whose computation is not fused into another."""

    def read(names: Iterable[str]) -> int:
        return sum(computation[name].hbm_bytes for name in names)

    match instruction.opcode:
        case opcode if opcode in _FREE or opcode.endswith(("-start", "-update")):
            return 0
        case opcode if opcode.endswith("-done"):  # counted here, because a start also lists its operands as results
            start = computation[instruction.operands[0]]
            return min(read(start.operands), instruction.padded_bytes) + instruction.hbm_bytes
        case opcode if opcode in _SLICES:
            return min(read(instruction.operands[:1]), instruction.padded_bytes) + instruction.hbm_bytes
        case "dynamic-update-slice":
            return 2 * read(instruction.operands[1:2])
        case "fusion":
            return _fusion_bytes(instruction, computation, program.computations[instruction.called[0]])
    return read(instruction.operands) + instruction.hbm_bytes


def _fusion_bytes(instruction: Instruction, computation: Computation, inner: Computation) -> int:
    parameters = {int(i.operands[0]): i.name for i in inner.values() if i.opcode == "parameter"}
    read = 0
    for number, operand in enumerate(instruction.operands):
        users = [i for i in inner.values() if parameters[number] in i.operands and i.operands[0] == parameters[number]]
        whole = computation[operand].hbm_bytes
        if users and all(i.opcode in _SLICES for i in users):
            whole = min(whole, sum(i.padded_bytes for i in users))
        elif users and all(i.opcode == "dynamic-update-slice" for i in users):
            whole = 0  # updated in place
        read += whole
    root = next(i for i in inner.values() if i.is_root)
    if root.opcode == "dynamic-update-slice":
        return read + min(instruction.hbm_bytes, inner[root.operands[1]].padded_bytes)
    return read + instruction.hbm_bytes
