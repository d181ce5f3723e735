# SPDX-License-Identifier: Apache-2.0
"""Each stage on real processes: what goes in, what comes out, and what is counted."""
import json
import time
import unicodedata
import unittest

from flume import Case, document, jsonl
from rundir import DATA, HAS_MODEL, NO_MODEL, RunCase, cosine, read_npy, strict

NASTY = ["", " ", "\u3000x\u2003", "e\u0301te\u0301", "İSTANBUL ΟΔΟΣ ẞ", "a\r\nb\u2028c\x0bd", "👩‍👩‍👧‍👦 family", "שלום עולם", "日本語 テキスト",
         "zero\u200bwidth\ufeff", "tab\tand\x07bell", "fi ﬁ ½ Å", "x" * 3000]


def lines(*records):
    return "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in records)


class Texts(Case):
    def texts(self, pipeline):
        self.write("a.jsonl", lines(*({"id": str(i), "text": t} for i, t in enumerate(NASTY))))
        rows = self.run_ok("-k", pipeline, "a.jsonl").rows()
        self.assertEqual([r["id"] for r in rows], [str(i) for i in range(len(NASTY))])
        return rows

    def test_strip_is_pythons_strip(self):
        self.assertEqual([r["text"] for r in self.texts("strip")], [t.strip() for t in NASTY])

    def test_lower_is_pythons_lower(self):
        self.assertEqual([r["text"] for r in self.texts("lower")], [t.lower() for t in NASTY])

    def test_normalize_composes_tidies_and_is_stable(self):
        once = [r["text"] for r in self.texts("normalize")]
        for text in once:
            self.assertEqual(text, unicodedata.normalize("NFC", text))
            self.assertEqual(text, text.strip())
            self.assertFalse(set(text) & set("\x07\u200b\ufeff\r\u2028\x0b\t"))
        self.assertEqual(once[3], "été")
        self.assertEqual(once[5], "a\nb\nc\nd")
        self.assertEqual([r["text"] for r in self.texts("normalize | normalize")], once)
        self.assertEqual([r["text"] for r in self.texts("normalize nfc=false whitespace=false control=false")], NASTY)

    def test_count_is_pythons_len_split_and_splitlines(self):
        for row, text in zip(self.texts("count"), NASTY):
            self.assertEqual((row["chars"], row["bytes"], row["words"], row["lines"]),
                             (len(text), len(text.encode()), len(text.split()), len(text.splitlines())), repr(text))

    def test_what_a_stage_adds_replaces_a_member_of_that_name(self):
        self.write("a.jsonl", '{"id":"a","chars":"mine","text":"four","lines":{"x":1}}\n')
        row = strict(self.run_ok("count", "a.jsonl").out)
        self.assertEqual((row["chars"], row["lines"], row["words"]), (4, 1, 1))

    def test_unknown_keys_travel_along_through_every_stage(self):
        extra = '"big":123456789012345678901234567890,"f":1.50,"esc":"\\u00e9\\/","n":null,"d":{"a":[{}]},"":0'
        self.write("a.jsonl", '{"text":"  One two three, four five six.  ","id":7,%s}\n' % extra)
        out = self.run_ok("strip | lower | normalize | clean min_chars=1 | count | sample rate=1 | exec cmd=cat | "
                          "chunk chars=12 overlap=4", "a.jsonl").out
        for line in out.splitlines():
            self.assertIn(extra, line)
            self.assertEqual(strict(line)["doc_id"], 7)


class Clean(RunCase):
    def test_reasons_are_counted_in_the_closing_line_and_run_json(self):
        good = "x" * 50
        self.write("a.jsonl", lines(
            {"id": 1, "text": good, "source": "s"}, {"id": 2, "text": "short"}, {"id": 3, "text": "é" * 101, "url": "u"},
            {"id": 4, "text": good, "source": ""}, {"id": 5, "text": good, "metadata": {"url": "u"}},
            {"id": 6, "text": good, "url": None}, {"id": 7, "text": "y" * 49}))
        result = self.run_ok("-k", "clean min_chars=50 max_chars=100 require=source,url", "-o", "out", "a.jsonl")
        self.assertEqual([r["id"] for r in self.rows()], [1, 5])
        self.assertEqual(self.counts_add_up()["filtered"], {"clean:max_chars": 1, "clean:min_chars": 2, "clean:require": 2})
        self.assertIn("5 filtered (clean:max_chars 1, clean:min_chars 2, clean:require 2)", result.err)

    def test_require_means_any_and_require_all_means_all(self):
        self.write("a.jsonl", lines({"id": 1, "text": "t", "a": 1}, {"id": 2, "text": "t", "a": 1, "b": 2}, {"id": 3, "text": "t"}))
        self.assertEqual(self.run_ok("-k", "clean min_chars=0 require=a,b", "a.jsonl").ids(), [1, 2])
        self.assertEqual(self.run_ok("-k", "clean min_chars=0 require_all=a,b", "a.jsonl").ids(), [2])

    def test_labels_name_the_reasons(self):
        self.write("a.jsonl", lines({"id": 1, "text": "a"}, {"id": 2, "text": "abcdef"}))
        result = self.run_ok("short=clean min_chars=2 | long=clean min_chars=1 max_chars=3", "a.jsonl")
        self.assertIn("(long:max_chars 1, short:min_chars 1)", result.err)


class Sample(Case):
    def test_a_sample_is_stable_nested_and_by_id(self):
        self.write("a.jsonl", jsonl(2000))
        self.write("b.jsonl", b"".join(reversed(jsonl(2000).splitlines(True))))
        large = self.run_ok("-k", "sample rate=0.3", "a.jsonl").ids()
        self.assertTrue(500 < len(large) < 700, len(large))
        self.assertEqual(sorted(self.run_ok("-j", "1", "sample rate=0.3", "b.jsonl").ids()), large)
        small = self.run_ok("sample rate=0.1", "a.jsonl")
        self.assertLess(set(small.ids()), set(large))
        self.assertIn("filtered (sample:", small.err)
        self.assertNotEqual(self.run_ok("-k", "sample rate=0.3 seed=1", "a.jsonl").ids(), large)
        self.assertEqual(self.run_ok("sample rate=0", "a.jsonl").ids(), [])


class Chunk(RunCase):
    def exact(self, pipeline, texts, **more):
        self.write("a.jsonl", lines(*({"id": "t%d" % i, "text": t, "keep": i} for i, t in enumerate(texts))))
        rows = self.run_ok("-k", pipeline, "a.jsonl", **more).rows()
        for row in rows:
            text = texts[row["keep"]]
            self.assertEqual(row["text"], text[row["start"]:row["end"]])
            self.assertEqual(row["text"].encode(), text.encode()[row["start_byte"]:row["end_byte"]])
            self.assertEqual(row["doc_id"], "t%d" % row["keep"])
        self.assertEqual(len({r["id"] for r in rows}), len(rows))
        return rows

    def texts(self):
        return [document(i, words=200)["text"] for i in range(30)] + [t for t in NASTY if t.strip()]

    def test_offsets_are_exact_in_python(self):
        for row in self.exact("chunk chars=50 overlap=10", self.texts()):
            self.assertLessEqual(len(row["text"]), 50)

    def test_chunks_cover_every_word_and_cut_at_words(self):
        texts = [document(i, words=120)["text"] for i in range(10)]
        rows = self.exact("chunk chars=60", texts)
        for i, text in enumerate(texts):
            mine = [r for r in rows if r["keep"] == i]
            self.assertEqual(" ".join(r["text"] for r in mine).split(), text.split())
            self.assertTrue(all(a["end"] <= b["start"] for a, b in zip(mine, mine[1:])))

    def test_overlap_repeats_the_end_of_the_chunk_before(self):
        rows = self.exact("chunk chars=60 overlap=25", [document(3, words=400)["text"] + " and more words to come"])
        overlaps = [a["end"] - b["start"] for a, b in zip(rows, rows[1:])]
        self.assertTrue(all(0 < n <= 25 for n in overlaps), overlaps)
        self.assertTrue(all(a["start"] < b["start"] for a, b in zip(rows, rows[1:])))

    @unittest.skipUnless(HAS_MODEL, NO_MODEL)
    def test_no_full_chunk_of_tokens_is_ever_truncated(self):
        texts = self.texts()
        rows = self.exact("chunk tokens=32 overlap=8", texts)
        self.assertTrue(all(r["token_count"] <= 32 for r in rows))
        self.assertGreater(max(r["token_count"] for r in rows), 28)
        self.run_ok("chunk tokens=32 overlap=8 | tokenise max_tokens=32", "-o", "out", "a.jsonl")
        self.assertEqual(self.counts_add_up()["truncated"], 0)
        self.assertEqual(sorted(r["id"] for r in rows), sorted(r["id"] for r in self.rows()))
        for row in self.rows():
            self.assertEqual(row["token_count"], len(row["tokens"]))

    def test_behind_an_edit_offsets_lead_back_to_the_source(self):
        text = "  \r\nThe  first\tline\x07 of e\u0301te\u0301.\r\n\r\n\r\nThe   second \u3000 line.  "
        self.write("a.jsonl", lines({"id": "a", "text": text}))
        rows = self.run_ok("-k", "normalize | chunk chars=10", "a.jsonl").rows()
        self.assertGreater(len(rows), 3)
        for row in rows:
            source = text[row["source_start"]:row["source_end"]]
            self.assertEqual(unicodedata.normalize("NFC", source.replace("\x07", "")).split(), row["text"].split())

    def test_a_text_without_words_is_dropped_and_too_many_chunks_reject(self):
        self.write("a.jsonl", lines({"id": 1, "text": "  \n "}, {"id": 2, "text": "a b c d e f"}, {"id": 3, "text": "a"}))
        result = self.run_ok("chunk chars=1 max_chunks=5", "a.jsonl", code=3)
        self.assertEqual([r["doc_id"] for r in result.rows()], [3])
        self.assertIn("1 filtered (chunk:empty 1) + 1 rejected (chunk:limit 1)", result.err)


@unittest.skipUnless(HAS_MODEL, NO_MODEL)
class Model(RunCase):
    @classmethod
    def setUpClass(cls):
        with open(DATA / "minilm" / "texts.jsonl", encoding="utf-8") as f:
            cls.texts = [json.loads(line) for line in f]
        cls.ids = json.loads((DATA / "minilm" / "ids.json").read_text())
        cls.vectors = read_npy(DATA / "minilm" / "embeddings.npy")[1]

    def test_token_ids_are_those_of_the_reference(self):
        rows = self.run_ok("-k", "tokenise max_tokens=256", DATA / "minilm" / "texts.jsonl").rows()
        self.assertEqual([r["id"] for r in rows], [t["id"] for t in self.texts])
        for row, ids in zip(rows, self.ids):
            self.assertEqual(row["tokens"], ids, row["id"])
            self.assertEqual(row["token_count"], len(ids))

    def test_without_special_tokens_only_the_words_are_left(self):
        self.write("a.jsonl", lines({"id": 1, "text": "the sea"}, {"id": 2, "text": ""}))
        rows = self.run_ok("-k", "tokenise special=false", "a.jsonl").rows()
        self.assertEqual([len(r["tokens"]) for r in rows], [2, 0])

    def test_vectors_are_those_of_the_reference(self):
        picked = [i for i, ids in enumerate(self.ids) if len(ids) < 40] + [i for i, ids in enumerate(self.ids) if len(ids) >= 40][::8]
        self.write("a.jsonl", lines(*({**self.texts[i], "at": i} for i in picked)))
        rows = self.run_ok("--cell-size", "2k", "embed", "a.jsonl", timeout=150).rows()
        self.assertEqual(sorted(r["at"] for r in rows), sorted(picked))
        for row in rows:
            self.assertGreaterEqual(cosine(row["embedding"], self.vectors[row["at"]]), 0.9999, row["id"])
            self.assertAlmostEqual(sum(x * x for x in row["embedding"]), 1, places=5)

    def test_truncated_texts_are_counted_and_told(self):
        self.write("a.jsonl", lines({"id": 1, "text": "word " * 300}, {"id": 2, "text": "word"}))
        result = self.run_ok("embed max_tokens=16", "-o", "out", "a.jsonl")
        self.assertIn("1 truncated", result.err)
        self.assertEqual(self.counts_add_up()["truncated"], 1)

    def test_a_missing_model_is_one_honest_failure(self):
        self.write("a.jsonl", jsonl(3))
        result = self.run_ok("embed model=nope", "a.jsonl", code=1)
        self.assertIn("'nope' is not in the cache", result.err)


class Exec(Case):
    def rejects(self, pipeline, code=3, n=3):
        self.write("a.jsonl", jsonl(n))
        result = self.run_ok("--rejects", "r.jsonl", pipeline, "a.jsonl", code=code, timeout=30)
        self.assertEqual(result.out, "")
        rows = [strict(line) for line in (self.dir / "r.jsonl").read_bytes().splitlines()]
        self.assertEqual(len(rows), n)
        return {(r["docflume"]["class"], r["docflume"]["error"]) for r in rows}

    def test_a_command_changes_texts_and_adds_members(self):
        self.write("a.jsonl", jsonl(300))
        script = self.write("up.py", "import json,sys\nfor line in sys.stdin:\n d = json.loads(line)\n"
                            " print(json.dumps({'id': d['id'], 'text': d['text'].upper(), 'n': d['metadata']['n'] + 1}))\n")
        rows = self.run_ok("-k", "exec cmd='python3 %s'" % script, "a.jsonl").rows()
        for i, row in enumerate(rows):
            self.assertEqual((row["text"], row["n"]), (document(i)["text"].upper(), i + 1))
            self.assertEqual(row["metadata"], document(i)["metadata"])

    def test_a_failing_command_rejects_with_its_status_and_last_words(self):
        (kind, error), = self.rejects("exec cmd='echo no luck >&2; exit 3'")
        self.assertEqual(kind, "child")
        self.assertIn("status 3", error)
        self.assertIn("no luck", error)

    def test_a_command_that_is_not_there_rejects(self):
        (_, error), = self.rejects("exec cmd=/no/such/command")
        self.assertIn("127", error)

    def test_a_command_that_hangs_is_killed_with_its_children(self):
        begin = time.monotonic()
        (kind, error), = self.rejects("exec cmd='sleep 100 & sleep 100' timeout_ms=300")
        self.assertLess(time.monotonic() - begin, 20)
        self.assertEqual(kind, "timeout")
        self.assertIn("300 ms", error)

    def test_too_few_lines_too_many_bytes_and_nonsense_reject(self):
        self.assertIn("one for each", next(iter(self.rejects("exec cmd='head -1'")))[1])
        self.assertTrue(self.rejects("exec cmd='yes' max_output=1k"))
        self.assertEqual({k for k, _ in self.rejects("exec cmd='cat >/dev/null; echo nonsense; echo [; echo 7,'")}, {"parse"})
        self.assertEqual({k for k, _ in self.rejects("exec cmd='cat >/dev/null; echo [1]; echo 7; echo null'")}, {"type"})

    def test_lines_in_another_order_reject(self):
        self.assertIn("another id", {e for _, e in self.rejects("exec cmd='tac'", n=2)}.pop())

    def test_a_command_that_reads_nothing_but_answers_is_fine(self):
        self.write("a.jsonl", '{"id":"a","text":"t"}\n')
        self.assertEqual(self.run_ok("""exec cmd="echo '{}'" """, "a.jsonl").ids(), ["a"])


if __name__ == "__main__":
    unittest.main()
