# SPDX-License-Identifier: Apache-2.0
"""Prompts, schemas and presets with mistakes in them, as people make them: told before anything is asked, and at the end in words that help."""
import json
import unittest

from answers import Answering
from flume import Case


def refusing(prompt, handler):
    """A server that knows every document by name and takes none."""
    message = "no such thing as this, " + handler.headers.get("authorization", "") + " " + "x" * 3000
    return 400, {}, json.dumps({"error": {"message": message, "type": "invalid_request_error"}}).encode()


class Prompts(Case):
    def setUp(self):
        super().setUp()
        self.config = self.dir / "config" / "docflume"
        self.config.mkdir(parents=True)
        self.home = {"HOME": str(self.dir), "XDG_CONFIG_HOME": str(self.dir / "config"), "XDG_CACHE_HOME": str(self.dir / "cache"),
                     "XDG_STATE_HOME": str(self.dir / "state"), "OPENAI_API_KEY": "sk-planted-0123456789"}
        self.write("one.jsonl", '{"id":"a","text":"hello"}\n')

    def ask(self, *args, code=0):
        result = self.flume("run", "-j", "1", *args, env=self.home)
        self.assertEqual(result.code, code, result.err)
        return result

    def refused(self, words, *args):
        result = self.ask(*args, code=2)
        self.assertIn(words, result.err)
        self.assertEqual(result.out, "")
        return result.err


class Empty(Prompts):
    def test_an_empty_schema_is_refused_and_never_switches_checking_off(self):
        self.write("e.json", "")
        self.write("blank.json", "\n \n")
        self.write("bom.json", b"\xef\xbb\xbf\n")
        for name in ("e.json", "blank.json", "bom.json"):
            self.refused(f"'{name}' is empty", f"llm model=fake/any prompt='{{{{text}}}}' schema=@{name}", "one.jsonl")
        self.refused("option 'schema' is empty", "llm model=fake/any prompt='{{text}}' schema=''", "one.jsonl")
        self.refused("option 'schema' is empty", "llm model=fake/any prompt='{{text}}' schema='  '", "one.jsonl")

    def test_a_schema_is_an_object_or_a_boolean(self):
        for text in ("[]", "3", "null", "'\"x\"'"):
            self.refused("a schema is an object, true or false", f"llm model=fake/any prompt='{{{{text}}}}' schema={text}", "one.jsonl")

    def test_an_empty_prompt_is_no_pipeline(self):
        self.write("e.txt", "\n")
        self.refused("option 'prompt' is empty", "llm model=fake/any prompt=''", "one.jsonl")
        self.refused("option 'prompt' is empty", "llm model=fake/any prompt=' '", "one.jsonl")
        self.refused("'e.txt' is empty", "llm model=fake/any prompt=@e.txt", "one.jsonl")


class Places(Prompts):
    def test_a_prompt_without_a_place_is_told_once(self):
        err = self.ask("llm model=fake/any prompt='Sum this up'", "one.jsonl").err
        self.assertEqual(err.count("has no place for a field"), 1, err)
        self.assertIn("{{text}}", err)

    def test_single_braces_are_shown_with_two(self):
        err = self.ask("llm model=fake/any prompt='Sum up {metadata.title}'", "one.jsonl").err
        self.assertIn("'{metadata.title}' is only text; '{{metadata.title}}' is a place", err)

    def test_a_prompt_with_a_place_is_not_told_of(self):
        self.assertNotIn("no place", self.ask("llm model=fake/any prompt='{x} {{text}}'", "one.jsonl").err)
        self.assertNotIn("no place", self.ask("llm model=fake/any prompt='Sum up' system='The text: {{text}}'", "one.jsonl").err)

    def test_three_braces_are_named_as_such(self):
        err = self.refused("'{{{'", "llm model=fake/any prompt='{{{text}}}'", "one.jsonl")
        self.assertNotIn("without its '}}'", err)


class Files(Prompts):
    def test_a_path_in_a_pipeline_file_begins_at_the_files_folder(self):
        self.write("p/sub/ask.txt", "there: {{text}}")
        self.write("sub/ask.txt", "here: {{text}}")
        self.write("p/list.yaml", "stages:\n  - llm: {model: fake/echo, prompt: '@sub/ask.txt'}\n")
        self.write("p/text.yaml", "pipeline: llm model=fake/echo prompt=@sub/ask.txt\n")
        for name in ("p/list.yaml", "p/text.yaml", self.dir / "p" / "list.yaml"):
            self.assertEqual(self.ask("-f", name, "one.jsonl").rows()[0]["answer"], "there: hello")
        self.assertEqual(self.ask("llm model=fake/echo prompt=@sub/ask.txt", "one.jsonl").rows()[0]["answer"], "here: hello")
        self.assertEqual(self.ask("-f", "p/list.yaml", "--llm.prompt", "@sub/ask.txt", "one.jsonl").rows()[0]["answer"], "here: hello")

    def test_absolute_paths_and_doubled_signs_stay(self):
        self.write("x/ask.txt", "x: {{text}}")
        self.write("p/a.yaml", f"stages:\n  - llm: {{model: fake/echo, prompt: '@{self.dir}/x/ask.txt'}}\n")
        self.write("p/b.yaml", "stages:\n  - llm: {model: fake/echo, prompt: '@@{{text}}'}\n")
        self.assertEqual(self.ask("-f", "p/a.yaml", "one.jsonl").rows()[0]["answer"], "x: hello")
        self.assertEqual(self.ask("-f", "p/b.yaml", "one.jsonl").rows()[0]["answer"], "@hello")

    def test_a_file_that_is_not_there_is_named_with_its_folder(self):
        self.write("p/a.yaml", "stages:\n  - llm: {model: fake/echo, prompt: '@sub/none.txt'}\n")
        self.refused("'p/sub/none.txt'", "-f", "p/a.yaml", "one.jsonl")

    def test_a_byte_order_mark_does_not_go_to_the_model(self):
        self.write("ask.txt", b"\xef\xbb\xbf{{text}}!")
        self.write("s.json", b"\xef\xbb\xbf" + b'{"type":"object","required":["n"],"properties":{"n":{"type":"integer"}}}')
        self.assertEqual(self.ask("llm model=fake/echo prompt=@ask.txt", "one.jsonl").rows()[0]["answer"], "hello!")
        self.assertIn("n", self.ask("llm model=fake/any prompt=@ask.txt schema=@s.json", "one.jsonl").rows()[0]["answer"])


class Presets(Prompts):
    def preset(self, text, words):
        (self.config / "presets.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
        err = self.refused(words, "llm model=fake/any prompt='{{text}}' preset=mine", "one.jsonl")
        self.assertNotIn("[ERR]", err)
        return err

    def test_what_is_wrong_with_them_has_a_line(self):
        self.preset("a: {seed: 1}\nmine: {temperature: 0.3\n", "presets.yaml:3:1: ")
        self.preset("a: {seed: 1}\nmine: 3\n", "presets.yaml:2:7: preset 'mine' is no mapping")
        self.preset("\nmine: {nope: 3}\n", "presets.yaml:2:8")
        self.preset("\nmine:\n  seed: 1\n  temperature: hot\n", "presets.yaml:4:3")
        self.preset("\nmine: {temperature: *x}\n", "presets.yaml:2:")
        self.preset("mine:\n\ttemperature: 3\n", "presets.yaml:2:1")
        self.preset(b"mine: {seed: 1}\n\xff\n", "presets.yaml")
        self.preset("mine: {seed: 1}\nmine: {seed: 2}\n", "presets.yaml:2:1")
        self.preset("%YAML 9.9 x\n---\nmine: {}\n", "presets.yaml:")
        self.preset("mine: &a {seed: *a}\n", "presets.yaml:1:")
        self.preset("mine: {<<: *b}\n", "presets.yaml:1:")
        self.preset("mine: \"\\q\"\n", "presets.yaml:1:")
        self.preset("--- a\n--- b\n", "presets.yaml:")

    def test_files_that_they_name_lie_beside_them(self):
        (self.config / "presets.yaml").write_text("mine: {prompt: '@ask.txt'}\n")
        (self.config / "ask.txt").write_text("preset: {{text}}")
        self.assertEqual(self.ask("llm model=fake/echo preset=mine", "one.jsonl").rows()[0]["answer"], "preset: hello")


class Schemas(Prompts):
    def test_a_schema_that_leads_to_itself_is_refused_with_its_path(self):
        loop = {"$ref": "#/$defs/a", "$defs": {"a": {"allOf": [{"$ref": "#/$defs/b"}]}, "b": {"not": {"$ref": "#/$defs/a"}}}}
        self.write("s.json", json.dumps(loop))
        err = self.refused("leads back to itself", "llm model=fake/any prompt='{{text}}' schema=@s.json", "one.jsonl")
        self.assertIn("/$defs/a/allOf/0/$ref", err)
        self.assertIn("/$defs/b/not/$ref", err)

    def test_the_fake_model_fills_a_tree(self):
        node = {"type": "object", "required": ["name", "children"], "additionalProperties": False,
                "properties": {"name": {"type": "string"}, "children": {"type": "array", "items": {"$ref": "#/$defs/node"}}}}
        chain = {"type": "object", "required": ["v", "next"], "properties": {
            "v": {"type": "integer"}, "next": {"anyOf": [{"$ref": "#/$defs/chain"}, {"type": "null"}]}}}
        optional = {"type": "object", "required": ["v"], "properties": {"v": {"type": "integer"}, "next": {"$ref": "#/$defs/optional"}}}
        defs = {"node": node, "chain": chain, "optional": optional}
        for name in defs:
            self.write("s.json", json.dumps({"$ref": "#/$defs/" + name, "$defs": defs}))
            self.ask("llm model=fake/any prompt='{{text}}' schema=@s.json", "one.jsonl")

    def test_the_fake_model_writes_as_much_as_is_wanted(self):
        self.write("s.json", '{"type":"string","minLength":100000}')
        self.assertGreaterEqual(len(self.ask("llm model=fake/any prompt='{{text}}' schema=@s.json", "one.jsonl").rows()[0]["answer"]), 100000)


class Ends(Answering, Prompts):
    def serve(self):
        return "http://127.0.0.1:%d/v1" % self.server(refusing).server_port

    def test_each_kind_of_reject_has_an_example(self):
        self.write("d.jsonl", "".join(json.dumps({"id": f"doc-{i}", "text": "t", **({} if i % 2 else {"title": "x"})}) + "\n" for i in range(40)))
        err = self.ask("llm model=openai/m prompt='{{title}}' attempts=1 base_url=" + self.serve(), "d.jsonl", "-o", "out", code=3).err
        lines = [line for line in err.splitlines() if "e.g." in line]
        self.assertEqual(len(lines), 2, err)
        self.assertTrue(any("llm:not-found, e.g. 'doc-" in line and "field 'title' is missing" in line for line in lines), err)
        other = [line for line in lines if "not-found" not in line][0]
        self.assertRegex(other, r"'doc-\d*[02468]': .*no such thing as this")
        self.assertLess(max(map(len, lines)), 500)
        self.assertNotIn("sk-planted-0123456789", err)
        kept = json.loads((self.dir / "out" / "run.json").read_text())["counts"]
        self.assertEqual(set(kept["reject_examples"]), set(kept["rejected"]))
        self.assertIn("field 'title' is missing", kept["reject_examples"]["llm:not-found"]["message"])
        self.assertRegex(kept["reject_examples"]["llm:not-found"]["id"], r"^doc-\d*[13579]$")
        self.assertEqual(self.flume("verify", "out").code, 0)

    def test_examples_stay_when_a_run_goes_on(self):
        self.write("d.jsonl", "".join(json.dumps({"id": f"doc-{i}", "text": "t" * 500}) + "\n" for i in range(4000)))
        first = self.ask("--cell-size", "4K", "--max-errors", "50", "llm model=fake/echo prompt='{{title}}'", "d.jsonl", "-o", "out", code=1)
        self.assertIn("field 'title' is missing", first.err)
        before = json.loads((self.dir / "out" / "run.json").read_text())["counts"]["reject_examples"]
        self.ask("--cell-size", "4K", "--max-errors", "100%", "llm model=fake/echo prompt='{{title}}'", "d.jsonl", "-o", "out", code=3)
        after = json.loads((self.dir / "out" / "run.json").read_text())["counts"]["reject_examples"]
        self.assertEqual(len(after), 1)
        self.assertEqual(before, after)

    def test_a_name_with_line_breaks_stays_on_its_line(self):
        self.write("d.jsonl", json.dumps({"id": "a\n\x1b[31mforged", "text": "t"}) + "\n")
        err = self.ask("llm model=fake/echo prompt='{{title}}'", "d.jsonl", code=3).err
        self.assertNotIn("\x1b", err)
        self.assertNotIn("\nforged", err)
        self.assertIn("field 'title' is missing", err)

    def test_money_is_told_in_decimals_and_from_one_source(self):
        (self.config / "models.yaml").write_text("models:\n  - {id: 'fake/*', price_in: 1, price_out: 0.5}\n")
        self.write("d.jsonl", "".join(json.dumps({"id": str(i), "text": f"t {i}"}) + "\n" for i in range(50)))
        err = self.ask("--budget", "0.00005", "llm model=fake/any prompt='{{text}}' max_tokens=16", "d.jsonl", "-o", "out", code=4).err
        self.assertNotRegex(err, r"\de-\d")
        self.assertRegex(err, r"the budget of \$0\.0000500? is used up")
        said = [line for line in err.splitlines() if "is used up" in line][-1]
        spent = [line for line in err.splitlines() if " calls for $" in line][-1].split(" calls for ")[1].split()[0]
        self.assertIn(spent + " are spent", said)

    def test_a_worker_that_knows_no_key_is_no_death(self):
        self.home.pop("OPENAI_API_KEY")
        result = self.flume("run", "-j", "1", "llm model=gpt-4o-mini prompt='{{text}}'", "one.jsonl",
                            env={**self.home, "OPENAI_API_KEY": ""})
        self.assertIn(result.code, (1, 2), result.err)
        self.assertNotIn("died", result.err)
        self.assertNotIn("exited with code", result.err)


if __name__ == "__main__":
    unittest.main()
