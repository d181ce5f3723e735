#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""make_onnx.py MODEL_DIR OUT.onnx: the fused BERT graph that onnxruntime's own optimizer makes (EmbedLayerNormalization, Attention,
SkipLayerNormalization, BiasGelu), written straight from model.safetensors: no torch needed, and the peer is at its best."""
import json
import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file

model_dir, out = sys.argv[1:3]
config = json.load(open(model_dir + "/config.json"))
weights = {k.removeprefix("bert."): np.ascontiguousarray(v, np.float32) for k, v in load_file(model_dir + "/model.safetensors").items()
           if v.dtype.kind == "f"}
nodes, constants = [], {}
eps = config["layer_norm_eps"]


def const(name, value):
    constants.setdefault(name, numpy_helper.from_array(np.ascontiguousarray(value), name))
    return name


def w(name, transpose=False):
    return const(name, weights[name].T if transpose else weights[name])


def op(kind, inputs, outputs, domain="com.microsoft", **attributes):
    nodes.append(helper.make_node(kind, inputs, outputs, domain=domain, **attributes))
    return outputs[0]


for name in ("input_ids", "token_type_ids", "attention_mask"):
    op("Cast", [name], [name + "32"], domain="", to=TensorProto.INT32)
x = op("EmbedLayerNormalization",
       ["input_ids32", "token_type_ids32"] + [w(f"embeddings.{k}_embeddings.weight") for k in ("word", "position", "token_type")]
       + [w("embeddings.LayerNorm.weight"), w("embeddings.LayerNorm.bias")], ["embedded", "mask_index"], epsilon=eps)
for i in range(config["num_hidden_layers"]):
    p = f"encoder.layer.{i}."
    qkv = [p + f"attention.self.{k}." for k in ("query", "key", "value")]
    wide = const(p + "qkv.weight", np.concatenate([weights[k + "weight"].T for k in qkv], axis=1))
    bias = const(p + "qkv.bias", np.concatenate([weights[k + "bias"] for k in qkv]))
    a = op("Attention", [x, wide, bias, "attention_mask32"], [p + "a"], num_heads=config["num_attention_heads"])
    a = op("MatMul", [a, w(p + "attention.output.dense.weight", True)], [p + "o"], domain="")
    x = op("SkipLayerNormalization", [a, x] + [w(p + "attention.output." + k) for k in ("LayerNorm.weight", "LayerNorm.bias", "dense.bias")],
           [p + "x1"], epsilon=eps)
    h = op("MatMul", [x, w(p + "intermediate.dense.weight", True)], [p + "h"], domain="")
    h = op("BiasGelu", [h, w(p + "intermediate.dense.bias")], [p + "g"])
    h = op("MatMul", [h, w(p + "output.dense.weight", True)], [p + "d"], domain="")
    last = "last_hidden_state" if i + 1 == config["num_hidden_layers"] else p + "x2"
    x = op("SkipLayerNormalization", [h, x] + [w(p + "output." + k) for k in ("LayerNorm.weight", "LayerNorm.bias", "dense.bias")], [last],
           epsilon=eps)
graph = helper.make_graph(
    nodes, "bert", [helper.make_tensor_value_info(n, TensorProto.INT64, ["b", "s"]) for n in ("input_ids", "attention_mask", "token_type_ids")],
    [helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, ["b", "s", config["hidden_size"]])], list(constants.values()))
onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)], ir_version=9), out)
