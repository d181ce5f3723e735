# SPDX-License-Identifier: Apache-2.0
"""What people type: pipelines, files of them, options; and how each mistake is shown."""
import json
import subprocess
import unittest

from flume import Case, jsonl

STAGES = "strip lower normalize clean count sample chunk tokenise embed llm request exec".split()


class Language(Case):
    def setUp(self):
        super().setUp()
        self.write("a.jsonl", jsonl(5))

    def plan(self, *args):
        result = self.flume("run", "--dry-run", *args)
        self.assertEqual(result.code, 0, result.err)
        return result.out

    def pipeline(self, *args):
        return self.plan(*args, "a.jsonl").splitlines()[0].split(": ", 1)[1]

    def refused(self, *args, command="run"):
        result = self.flume(command, *args)
        self.assertEqual(result.code, 2, result.err)
        self.assertEqual(result.out, "")
        self.assertTrue(result.err.startswith("docflume: error: "), result.err)
        return result.err

    def caret(self, pipeline, at, *words):
        """The message shows the pipeline's line and a caret under the place."""
        lines = self.refused(pipeline, "a.jsonl").splitlines()
        for word in words:
            self.assertIn(word, lines[0])
        self.assertEqual(lines[1], "  " + pipeline)
        self.assertEqual(lines[2], "  " + " " * pipeline.index(at) + "^")


class Pipelines(Language):
    def test_blanks_line_breaks_and_comments_do_not_matter(self):
        for text in ("strip|clean min_chars=5|count", "  strip |\n\n clean\tmin_chars=5 # short ones go\n|count # ends"):
            self.assertEqual(self.pipeline(text), "strip | clean min_chars=5 | count")

    def test_quotes_hold_bars_blanks_hashes_and_other_quotes(self):
        text = "don't | stop # here"
        self.write("b.jsonl", '{"id":"1","text":"x"}\n')
        command = """sed 's/"text":"x"/"text":"%s"/'""" % text.replace("'", r"'\''")
        quoted = '"%s"' % command.replace("\\", "\\\\").replace('"', '\\"')
        self.assertEqual(self.run_ok("exec cmd=" + quoted, "b.jsonl").rows()[0]["text"], text)

    def test_a_hash_inside_a_word_is_no_comment(self):
        self.assertEqual(self.pipeline("clean require=a#b"), "clean require=a#b")

    def test_what_a_dry_run_prints_is_the_same_pipeline_again(self):
        for text in (r'exec cmd="a \" b \\ c\td"', "exec cmd='it is # | fine'", r'c=clean require="\u00e9, x"'):
            once = self.pipeline(text)
            self.assertEqual(self.pipeline(once), once)

    def test_labels_tell_stages_of_one_name_apart(self):
        self.assertEqual(self.pipeline("a=clean | b=clean", "--b.min_chars", "7"), "a=clean | b=clean min_chars=7")
        err = self.refused("clean | clean", "--clean.min_chars", "7", "a.jsonl")
        self.assertIn("more than one stage", err)

    def test_overrides_replace_what_is_written(self):
        self.assertEqual(self.pipeline("clean min_chars=5", "--clean.min_chars=9"), "clean min_chars=9")
        self.assertEqual(self.pipeline("clean", "--clean.min_chars", "9", "--clean.max_chars", "20"),
                         "clean min_chars=9 max_chars=20")
        self.assertIn("no stage 'clean'", self.refused("strip", "--clean.min_chars=9", "a.jsonl"))
        self.assertIn("did you mean 'min_chars'", self.refused("clean", "--clean.min_char=9", "a.jsonl"))


class Mistakes(Language):
    def test_an_unknown_stage_is_pointed_at_and_the_nearest_name_is_told(self):
        self.caret("strip | clen", "clen", "unknown stage 'clen'", "did you mean 'clean'")
        self.caret("tokenize", "tokenize", "did you mean 'tokenise'")

    def test_an_unknown_option_is_pointed_at(self):
        self.caret("strip | clean min_char=5", "min_char", "did you mean 'min_chars'")
        self.caret("strip speed=5", "speed", "unknown option 'speed'")

    def test_a_bad_value_is_pointed_at_with_its_range(self):
        self.caret("clean min_chars=x", "x", "'x' is not a whole number from 0")
        self.caret("sample rate=2", "2", "from 0 to 1")
        self.caret("chunk tokens=5", "5", "from 8")

    def test_the_caret_counts_characters_and_not_bytes(self):
        self.caret("exec cmd='é東京' | lowr", "lowr", "did you mean 'lower'")

    def test_open_quotes_empty_stages_and_missing_values(self):
        self.caret("exec cmd='a | b", "'", "not closed")
        self.caret("strip | | count", " | count", "name is missing")
        self.caret("clean min_chars=5 min_chars=6", "min_chars=6", "given twice")
        self.caret("strip | exec", "exec", "needs the option 'cmd=COMMAND'")
        self.assertIn("empty", self.refused("", "a.jsonl"))
        self.assertIn("no pipeline", self.refused())

    def test_the_right_line_of_several_is_shown(self):
        lines = self.refused("strip\n| lowr\n| count", "a.jsonl").splitlines()
        self.assertEqual(lines[1:3], ["  | lowr", "    ^"])

    def test_unknown_options_and_commands_name_the_nearest(self):
        self.assertIn("did you mean '--part-size'", self.refused("--part-sise", "1m", "strip", "a.jsonl"))
        self.assertIn("did you mean 'run'", self.refused("strip", command="rnu"))
        self.assertIn("unknown option '-x'", self.refused("-x", "strip", "a.jsonl"))

    def test_values_of_options_are_checked(self):
        for args in (("-j", "0"), ("-j", "many"), ("--part-size", "1"), ("--dtype", "f64"), ("--sample", "1.5"),
                     ("--output-format", "xml"), ("--limit", "-1"), ("--zstd=99",), ("--id-key", "")):
            self.assertIn(args[0].split("=")[0].replace("-j", "--jobs"), self.refused(*args, "strip", "a.jsonl"))
        self.assertIn("needs a value", self.refused("strip", "a.jsonl", "--part-size"))

    def test_options_that_exclude_each_other(self):
        for args in (("-q", "-v"), ("--force-restart",), ("--id-key", "text"), ("--output-format", "npy")):
            self.refused(*args, "strip", "a.jsonl")

    def test_no_command_is_a_usage_error(self):
        result = self.flume()
        self.assertEqual((result.code, result.out), (2, ""))

    def test_nothing_is_started_or_written_by_a_mistake(self):
        before = sorted(p.name for p in self.dir.iterdir())
        self.refused("strip | clen", "-o", "out", "--rejects", "r", "a.jsonl")
        self.plan("strip", "-o", "out", "a.jsonl")
        self.assertEqual(sorted(p.name for p in self.dir.iterdir()), before)


class Files(Language):
    def test_a_file_may_hold_all_of_a_run(self):
        self.write("p.yaml", "# all\nstages:\n  - strip\n  - clean: {min_chars: 3, require: [metadata, url]}\n"
                   "  - {name: c, chunk: {chars: 20}}\n  - exec:\n      cmd: \"cat | cat\"\n"
                   "jobs: 2\nkeep-order: true\ninputs: [a.jsonl]\n")
        plan = self.plan("-f", "p.yaml")
        self.assertIn("pipeline: strip | clean min_chars=3 require=metadata,url | c=chunk chars=20 | exec cmd='cat | cat'", plan)
        self.assertIn("workers: 2", plan)
        rows = self.run_ok("-f", "p.yaml").rows()
        self.assertTrue(rows)
        self.assertTrue(all(len(r["text"]) <= 20 for r in rows))

    def test_the_command_line_wins_over_the_file(self):
        self.write("p.yaml", "pipeline: c=clean min_chars=5 | count\njobs: 2\ninputs: [nothing.jsonl]\n")
        plan = self.plan("-f", "p.yaml", "-j", "3", "--c.min_chars", "8", "a.jsonl")
        self.assertIn("pipeline: c=clean min_chars=8 | count", plan)
        self.assertIn("workers: 3", plan)
        self.assertIn("a.jsonl", plan)
        self.assertNotIn("nothing.jsonl", plan)

    def test_settings_alone_leave_the_pipeline_to_the_command_line(self):
        self.write("p.yaml", "jobs: 3\n")
        self.assertIn("workers: 3", self.plan("-f", "p.yaml", "strip", "a.jsonl"))

    def test_mistakes_in_a_file_are_shown_with_their_place(self):
        for text, place, word in (("pipeline: strip\njobs: 0\n", "p.yaml:2:7", "'jobs'"),
                                  ("jobbs: 3\n", "p.yaml:1:1", "unknown option 'jobbs'"),
                                  ("stages: [strip\n", "p.yaml:", "bracket"),
                                  ("pipeline:\n  - strip\n", "p.yaml:2:5", "'stages'"),
                                  ("pipeline: strip | clen\n", "", "did you mean 'clean'"),
                                  ("stages:\n  - clean: {min_char: 3}\n", "", "did you mean 'min_chars'")):
            self.write("p.yaml", text)
            err = self.refused("-f", "p.yaml", "a.jsonl")
            self.assertIn(place, err)
            self.assertIn(word, err)

    def test_a_missing_file_is_named(self):
        result = self.flume("run", "-f", "none.yaml")
        self.assertIn(result.code, (1, 2))
        self.assertIn("none.yaml", result.err)


class Telling(Language):
    def test_stages_are_listed_and_told_about(self):
        result = self.flume("stages")
        self.assertEqual(result.code, 0)
        self.assertEqual([line.split()[0] for line in result.out.split("\n\n")[0].splitlines()], STAGES)
        for name in STAGES:
            told = self.flume("stages", name)
            self.assertEqual((told.code, told.err), (0, ""))
            self.assertTrue(told.out.startswith(name + ": "))
        self.assertIn("did you mean 'clean'", self.refused("clen", command="stages"))
        self.assertIn("at least once", self.flume("stages", "exec").out.replace("\n", " "))

    def test_a_dry_run_tells_inputs_output_and_workers(self):
        self.write("docs/b.jsonl", jsonl(2))
        self.write("docs/c.bin", b"?")
        plan = self.plan("strip", "-j", "2", "-o", "out", "a.jsonl", "docs")
        self.assertIn("inputs: 2, %d bytes" % (len(jsonl(5)) + len(jsonl(2))), plan)
        self.assertIn("docs/b.jsonl", plan)
        self.assertIn("1 of unknown kind", plan)
        self.assertIn("output: out (jsonl)", plan)
        self.assertIn("workers: 2", plan)

    def test_a_dry_run_refuses_missing_inputs(self):
        result = self.flume("run", "--dry-run", "strip", "none.jsonl")
        self.assertNotEqual(result.code, 0)
        self.assertIn("none.jsonl", result.err)

    def test_every_option_of_run_is_in_its_help(self):
        text = self.flume("run", "--help").out
        for option in "--out --jobs --file --keep-order --limit --skip --sample --id-key --text-key --input-format " \
                      "--max-record --output-format --dtype --part-size --zstd --rejects --model-dir --force-restart " \
                      "--bar --log-format --quiet --verbose --dry-run".split():
            self.assertIn(option, text)
        self.assertEqual(text, self.flume("help", "run").out)


if __name__ == "__main__":
    unittest.main()
