#!/bin/bash
# How cost grows, each in a process of its own, without sockets:
#   bench/grow.sh
# members 10^3 to 10^6, rooms 1 to 10^4, peers per list 30, 200 and 1,000. Raw lines go to
# docs/benchmarks/grow.jsonl. The exponent is the slope of log cost over log size.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
raw=$root/docs/benchmarks/grow.jsonl
tools jq
build
mkdir -p "$(dirname "$raw")"
: >"$raw"
exec > >(tee "${raw%.jsonl}.txt")

row() { jq -r 'def r: . * 100 | round / 100; "| \(.members) | \(.rooms) | \(.peers) | \(.replay_ms | r) | \(.memory_mb | r) | \(.freeze_ms | r) | \(.frozen_mb | r) | \(.window_us_per_member | r) | \(.window_us_per_datagram | r) |"'; }
grow() { load grow "$@" | tee -a "$raw" | row; }

# Of one column over another, by least squares.
exponent() {
    jq -r "select($1) | \"\(.$2) \(.$3)\"" "$raw" | sort -u | awk '$2 > 0 { x = log($1); y = log($2); n++; sx += x; sy += y; sxx += x * x; sxy += x * y }
        END { printf "%.2f", (n * sxy - sx * sy) / (n * sxx - sx * sx) }'
}

machine
echo "| members | rooms | peers | replay ms | memory MB | freeze ms | frozen MB | WINDOW us a member | us a datagram |"
echo "| --- | --- | --- | --- | --- | --- | --- | --- | --- |"
for members in 1000 10000 100000 1000000; do grow --members "$members"; done
for rooms in 10 100 1000 10000; do grow --members 100000 --rooms "$rooms"; done
for peers in 30 1000; do grow --members 100000 --peers "$peers"; done
echo
alone='.rooms == 1 and .peers == 200' spread='.members == 100000 and .peers == 200' lists='.members == 100000 and .rooms == 1'
echo "exponents over members: replay $(exponent "$alone" members replay_ms), memory $(exponent "$alone" members memory_mb), freeze $(exponent "$alone" members freeze_ms), a member's WINDOW $(exponent "$alone" members window_us_per_member)"
echo "exponents over rooms: replay $(exponent "$spread" rooms replay_ms), memory $(exponent "$spread" rooms memory_mb), freeze $(exponent "$spread" rooms freeze_ms)"
echo "exponent over peers per list: a member's WINDOW $(exponent "$lists" peers window_us_per_member)"
