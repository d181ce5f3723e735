#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""peer_onebyone.py strip | embed MODEL_DIR ONNX: one record from stdin to stdout, the way a Python script does it."""
import json
import sys


def embedder(model_dir, onnx):
    import numpy as np
    import onnxruntime as rt
    from tokenizers import Tokenizer
    tok = Tokenizer.from_file(model_dir + "/tokenizer.json")
    tok.enable_truncation(256)
    tok.no_padding()
    options = rt.SessionOptions()
    options.intra_op_num_threads = 1
    session = rt.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])

    def embed(text):
        x = np.array([tok.encode(text).ids], dtype=np.int64)
        h = session.run(None, {"input_ids": x, "attention_mask": np.ones_like(x), "token_type_ids": np.zeros_like(x)})[0].mean(1)[0]
        return (h / np.linalg.norm(h)).tolist()
    return embed


embed = embedder(*sys.argv[2:4]) if sys.argv[1] == "embed" else None
for line in sys.stdin:
    doc = json.loads(line)
    doc["text"] = doc["text"].strip()
    if embed:
        doc["embedding"] = embed(doc["text"])
    print(json.dumps(doc, ensure_ascii=False))
