# SPDX-License-Identifier: Apache-2.0
# wordnet.awk: makes JSONL documents of WordNet's glosses; any awk.
# usage: LC_ALL=C awk -v docs=10000 -v total=117659 -f wordnet.awk data.noun data.verb data.adj data.adv
# Of the `total` synsets `docs` are taken, evenly over the files; docs=0 takes all. The format: wndb(5WN).
#   00001740 03 n 01 entity 0 003 ~ 00001930 n 0000 ... | that which is perceived or known ...
# A line of the licence at a file's head begins with blanks.
BEGIN {
	for (i = 1; i < 32; i++)
		escape[sprintf("%c", i)] = sprintf("\\u%04x", i)
	escape["\t"] = "\\t"
	kind["noun"] = "noun"; kind["verb"] = "verb"; kind["adj"] = "adjective"; kind["adv"] = "adverb"
}

function quoted(s,    i, c, out) {
	gsub(/\\/, "\\\\", s)
	gsub(/"/, "\\\"", s)
	if (s !~ /[\001-\037]/)
		return "\"" s "\""
	out = ""
	for (i = 1; i <= length(s); i++) {
		c = substr(s, i, 1)
		out = out (c in escape ? escape[c] : c)
	}
	return "\"" out "\""
}

/^[0-9]/ {
	seen++
	if (docs > 0 && docs < total && int(seen * docs / total) == int((seen - 1) * docs / total))
		next
	bar = index($0, " | ")
	if (!bar)
		next
	gloss = substr($0, bar + 3)
	sub(/[ \r]+$/, "", gloss)
	file = FILENAME
	sub(/.*\./, "", file)
	lemma = $5
	sub(/\([a-z]+\)$/, "", lemma) # (p), (a), (ip): where an adjective may stand
	gsub(/_/, " ", lemma)
	printf "{\"id\":\"%s:%s\",\"text\":%s,\"source\":\"wordnet\",\"metadata\":{\"lemma\":%s,\"pos\":\"%s\"}}\n",
		file, $1, quoted(gloss), quoted(lemma), kind[file]
}
