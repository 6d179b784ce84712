"""Writes tests/goldens/gguf_blocks.json: blocks of every type with the numbers that the gguf package decodes them to.

    pip install gguf==0.19.0
    python tools/make_gguf_fixtures.py

Bytes are random but for scales, which are f16 numbers of a usual size. Both are base64; numbers are f32, little-endian.
"""

import base64
import json
import pathlib

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize

# Offsets of f16 numbers in a block.
HALVES = {
    "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0],
    "Q2_K": [80, 82], "Q3_K": [108], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208],
    "IQ4_NL": [0], "IQ4_XS": [0], "MXFP4": [],
}


def main() -> None:
    random = np.random.default_rng(20)
    types = {}
    for name, halves in HALVES.items():
        numbers, size = GGML_QUANT_SIZES[GGMLQuantizationType[name]]
        blocks = random.integers(0, 256, (8 if numbers == 32 else 3, size), dtype=np.uint8)
        for at in halves:
            scales = random.normal(0, 0.01, len(blocks)).astype(np.float16)
            blocks[:, at : at + 2] = scales.view(np.uint8).reshape(-1, 2)
        if name == "MXFP4":
            blocks[:, 0] = [0, 1, 2, 100, 120, 127, 130, 140]  # subnormal powers of two, usual ones, large ones
        decoded = dequantize(blocks, GGMLQuantizationType[name]).astype("<f4")
        types[name] = {key: base64.b64encode(array.tobytes()).decode() for key, array in
                       {"blocks": blocks, "numbers": decoded}.items()}
    path = pathlib.Path(__file__).parent.parent / "tests/goldens/gguf_blocks.json"
    path.write_text(json.dumps(types, indent=1) + "\n")


main()
