#!/bin/bash
# What a second worker brings, where both share two cores with the load:
#   bench/workers.sh [ROUNDS]
# Nobody is held to a core. Raw lines go to docs/benchmarks/workers.jsonl.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
rounds=${1:-5}
raw=$root/docs/benchmarks/workers.jsonl
tools jq
build
mkdir -p "$(dirname "$raw")"
: >"$raw"
exec > >(tee "${raw%.jsonl}.txt")
server_core=0,1 load_core=0,1

ask() {
    local subject=$1 workers=$2
    serve --window 10s --trust 192.0.2.1 --rate 1000000 --burst 1000000 --workers "$workers"
    load hit7 "$subject" "$addr" --pid "$pid" --clients 1000 --warm-up 11 --seconds 4 |
        jq -c --arg what "$subject" --argjson workers "$workers" --argjson round "$round" '{$round, $what, $workers} + .' | tee -a "$raw" |
        jq -r '"  \(.what), \(.workers) of workers: \(.per_second)/s, \(.cpu_us * 100 | round / 100) us of CPU an answer, \(.cpu_share * 100 | round) % of a core, p99 \(.p99_us) us"'
    stop "$pid"
}

machine
for round in $(seq "$rounds"); do
    echo "round $round"
    for subject in new same unproven; do
        for workers in 1 2; do ask "$subject" "$workers"; done
    done
done

column() { jq -r "select(.what == \"$1\" and .workers == $2) | .$3" "$raw" | spread; }
echo
echo "                                      min  median  max"
for subject in new same unproven; do
    for workers in 1 2; do
        printf '%-9s %d of workers, answers/s  %s\n' "$subject" "$workers" "$(column "$subject" "$workers" per_second)"
        printf '                CPU an answer, us  %s\n' "$(column "$subject" "$workers" cpu_us)"
        printf '                      p99, us      %s\n' "$(column "$subject" "$workers" p99_us)"
    done
done
