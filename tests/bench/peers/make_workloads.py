#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""make_workloads.py CORPUS.jsonl MODEL_DIR OUT_DIR: texts to embed, cut from real prose at word starts. Deterministic for a corpus.
  a.jsonl  about 128 word pieces each        b.jsonl  10 to 26: short
  c.jsonl  256: the model's limit            d.jsonl  log-normal: mostly short, with a tail"""
import json
import random
import re
import sys

from tokenizers import Tokenizer

corpus, model_dir, out_dir = sys.argv[1:4]
tok = Tokenizer.from_file(model_dir + "/tokenizer.json")
tok.no_truncation()
tok.no_padding()
rnd = random.Random(7)


def prose():
    """English paragraphs: letters and blanks dominate."""
    found = []
    for line in open(corpus, encoding="utf-8"):
        t = re.sub(r"\s+", " ", json.loads(line)["text"]).strip()
        if t.isascii() and sum(c.isalpha() or c == " " for c in t) > 0.9 * len(t):
            found.append(t)
        if len(found) >= 6000:
            break
    rnd.shuffle(found)
    return found


texts = prose()
encodings = tok.encode_batch(texts, add_special_tokens=False)
spot = 0


def take(n):
    """The next run of n word pieces (or a little less: to a word's start)."""
    global spot
    for _ in range(len(texts)):
        e, t = encodings[spot], texts[spot]
        spot = (spot + 1) % len(texts)
        if len(e.ids) <= n + 1:
            continue
        a = rnd.randrange(0, len(e.ids) - n)
        while a > 0 and e.word_ids[a] == e.word_ids[a - 1]:
            a -= 1
        b = a + n
        while b > a + 1 and e.word_ids[b] == e.word_ids[b - 1]:
            b -= 1
        return t[e.offsets[a][0]:e.offsets[b - 1][1]]
    raise SystemExit(f"make_workloads: no text of {n} word pieces in {corpus}")


def write(name, lengths):
    cut = [take(n) for n in lengths]
    with open(f"{out_dir}/{name}.jsonl", "w", encoding="utf-8") as f:
        for i, t in enumerate(cut):
            f.write(json.dumps({"id": f"{name}{i}", "text": t}) + "\n")
    total = sum(min(256, len(e.ids)) for e in tok.encode_batch(cut))
    print(f"{name}: {len(cut)} texts, {total} tokens, mean {total / len(cut):.0f}")


write("a", [rnd.randint(116, 136) for _ in range(2000)])
write("b", [rnd.randint(10, 26) for _ in range(2000)])
write("c", [262] * 500)
write("d", [max(4, min(300, int(rnd.lognormvariate(4.1, 0.9)))) for _ in range(2000)])
