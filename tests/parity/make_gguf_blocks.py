"""Writes tests/vectors/gguf/blocks.bin: random blocks of every tensor type that can be read and the
values that the `gguf` package gives for them.

    python tests/parity/make_gguf_blocks.py        # needs numpy and gguf (0.19.0)

Each record: type number u32, blocks u32, values u32, the blocks, the values as f32; little-endian.
"""
import pathlib
import struct

import gguf
import numpy as np
from gguf.quants import dequantize

TYPES = ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q4_K", "Q5_K", "Q6_K"]
# Where the f16 scales stand in a block: random bits there could be infinite.
SCALES = {"Q8_0": [0], "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q4_K": [0, 2],
          "Q5_K": [0, 2], "Q6_K": [208]}


def finite_f16(rng, n):
    bits = rng.integers(0, 1 << 16, n).astype(np.uint16)
    bits[(bits & 0x7C00) == 0x7C00] &= 0xBFFF
    return bits


def blocks_of(name, rng):
    kind = gguf.GGMLQuantizationType[name]
    values, size = gguf.GGML_QUANT_SIZES[kind]
    n = 64 if values == 1 else 8 if values == 32 else 3
    raw = rng.integers(0, 256, (n, size)).astype(np.uint8)
    if name == "F32":
        raw = rng.standard_normal(n).astype("<f4").view(np.uint8).reshape(n, 4)
    elif name == "F16":
        raw = finite_f16(rng, n).astype("<u2").view(np.uint8).reshape(n, 2)
    elif name == "BF16":
        bits = (rng.standard_normal(n).astype("<f4").view("<u4") >> 16).astype("<u2")
        raw = bits.view(np.uint8).reshape(n, 2)
    for at in SCALES.get(name, []):
        raw[:, at:at + 2] = finite_f16(rng, n).astype("<u2").view(np.uint8).reshape(n, 2)
    wide = dequantize(raw.reshape(1, -1), kind).astype("<f4").reshape(-1)
    return int(kind), n, raw.tobytes(), wide


def main():
    rng = np.random.default_rng(20261128)
    out = b""
    for name in TYPES:
        number, n, raw, wide = blocks_of(name, rng)
        out += struct.pack("<III", number, n, len(wide)) + raw + wide.tobytes()
    path = pathlib.Path(__file__).resolve().parent.parent / "vectors" / "gguf" / "blocks.bin"
    path.write_bytes(out)


if __name__ == "__main__":
    main()
