#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# stage_docs.sh BIN: docs/stages and docs/man must be what BIN makes of its own tables.
set -eu
bin=$1
root=$(cd "$(dirname "$0")/../.." && pwd)
made=$(mktemp -d)
trap 'rm -rf "$made"' EXIT
"$bin" stages --markdown "$made/stages"
"$bin" help --man > "$made/docflume.1"
if diff -ru "$root/docs/stages" "$made/stages" && diff -u "$root/docs/man/docflume.1" "$made/docflume.1"; then
	echo "stage pages and manual page are up to date"
else
	echo "out of date: run '$bin stages --markdown docs/stages' and '$bin help --man > docs/man/docflume.1'" >&2
	exit 1
fi
