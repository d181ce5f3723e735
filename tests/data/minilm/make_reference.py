"""Reference for all-MiniLM-L6-v2: token ids (max 256) and mean-pooled, L2-normalised fp32 vectors by onnxruntime.
usage: make_reference.py MODEL_DIR MODEL.onnx TEXTS.jsonl OUT_DIR     (MODEL.onnx: the plain export of the model, not fused)
shapes: embeddings.npy float32 [n, 384] in the order of TEXTS.jsonl; ids.json n lists of ids with [CLS] and [SEP]."""
import json, sys
import numpy as np, onnxruntime as rt
from tokenizers import Tokenizer
model_dir, onnx, texts, out = sys.argv[1:5]
tok = Tokenizer.from_file(model_dir + "/tokenizer.json"); tok.enable_truncation(256); tok.no_padding()
ses = rt.InferenceSession(onnx, providers=["CPUExecutionProvider"]); names = {i.name for i in ses.get_inputs()}
vecs, ids = [], []
for line in open(texts, encoding="utf-8"):
    e = tok.encode(json.loads(line)["text"]); x = np.array([e.ids], dtype=np.int64)
    feed = {"input_ids": x, "attention_mask": np.ones_like(x), "token_type_ids": np.zeros_like(x)}
    h = ses.run(None, {k: v for k, v in feed.items() if k in names})[0].mean(1)[0]
    vecs.append(h / np.linalg.norm(h)); ids.append(e.ids)
np.save(out + "/embeddings.npy", np.array(vecs, dtype=np.float32)); json.dump(ids, open(out + "/ids.json", "w"))
