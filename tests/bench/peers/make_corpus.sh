#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# make_corpus.sh OUT SIZE_MB : deterministic JSONL {"id","text","source"} of 1-4 KB docs, from Debian doc packages.
# Packages (corpus_packages.txt) are downloaded with apt-get download and unpacked with dpkg-deb -x (nothing installed).
# Same package versions => byte-identical output (sha256 printed). Real text only; if the pool runs out, further
# passes re-cut the same text at other offsets (pass k starts k*577 bytes in) so documents differ; the pass count is printed.
set -euo pipefail
OUT=$1; MB=$2; HERE=$(cd "$(dirname "$0")" && pwd); WORK=${WORK:-$HERE/../../../build/bench}
DEB=$WORK/deb; TREE=$WORK/debtree; mkdir -p "$DEB" "$TREE"
while read -r p; do
  ls "$DEB/${p}"_*.deb >/dev/null 2>&1 || (cd "$DEB" && apt-get download -q -o APT::Sandbox::User=root "$p" >/dev/null)
  [ -d "$TREE/$p" ] || { mkdir -p "$TREE/$p.tmp"; dpkg-deb -x "$DEB/${p}"_*.deb "$TREE/$p.tmp"; mv "$TREE/$p.tmp" "$TREE/$p"; }
done < "$HERE/corpus_packages.txt"
exec python3 "$HERE/make_corpus.py" "$TREE" "$OUT" "$MB"
