#!/bin/bash
# Two builds of hit7 under the same load, by turns (A B, B A, A B …):
#   bench/versus.sh BASE_BINARY NEW_BINARY [ROUNDS]
# What a new record and a retry cost, the opening of a window of 10,000 members, and the start with a
# journal of a million members. Prints both medians, and of the ratios new/base of each round the
# minimum, median and maximum: a ratio below 1 is in favour of the new build. Raw lines go to
# bench/target/versus.jsonl. Both have to read the journal that this checkout's bench/ writes.
#   MEMBERS=100000 SECONDS_EACH=2 bench/versus.sh …    a smaller replay, and shorter loads
set -euo pipefail
[ $# -ge 2 ] || { sed -n '2,9s/^# \?//p' "$0" >&2; exit 2; }
base=$(realpath "$1") new=$(realpath "$2") rounds=${3:-5}
. "$(dirname "$0")/lib.sh"
members=${MEMBERS:-1000000} seconds=${SECONDS_EACH:-4}
raw=$root/bench/target/versus.jsonl
tools jq
build_bench
for hit7 in "$base" "$new"; do [ -x "$hit7" ] || die "no program: $hit7"; done
: >"$raw"

note() { jq -c --arg build "$build" --arg what "$1" --argjson round "$round" '{$round, $build, $what} + .' >>"$raw"; }

registers() {
    local subject
    for subject in new same; do
        serve --window 10s --trust 192.0.2.1 --rate 1000000 --burst 1000000 --workers 1
        load hit7 "$subject" "$addr" --pid "$pid" --clients 1000 --warm-up 11 --seconds "$seconds" | note "$subject"
        stop "$pid"
    done
}

# Members take trains whole: to cut them is the work of their hosts, and not the registry's.
opening() {
    serve --window 10s --workers 1 --max-room 0
    load minute "$addr" --pid "$pid" --members 10000 --probes 0 --trains | note opening
    stop "$pid"
}

replay() {
    local dir
    dir=$(mktemp -d "$work/replay.XXXX")
    "$bench" replay "$hit7" "$dir" --core "$server_core" --members "$members" | note replay
    rm -r "$dir"
}

machine
echo "base:    $base"
echo "new:     $new"
for round in $(seq "$rounds"); do
    builds=(base new)
    [ $((round % 2)) = 1 ] || builds=(new base)
    for build in "${builds[@]}"; do
        echo "round $round of $rounds: $build" >&2
        hit7=${!build}
        registers
        opening
        replay
    done
done

median() { jq -r "select(.build == \"$1\" and .what == \"$2\") | .$3" "$raw" | spread | awk '{ print $2 }'; }
ratios() { jq -rs "map(select(.what == \"$1\")) | group_by(.round)[] | (map(select(.build == \"new\"))[0].$2) / (map(select(.build == \"base\"))[0].$2)" "$raw" | spread; }
row() { printf '%-40s %9s %9s   %s\n' "$1" "$(median base "$2" "$3")" "$(median new "$2" "$3")" "$(ratios "$2" "$3")"; }
echo
echo "median of                                     base       new   new/base: min  median  max"
row "new record: CPU an answer, us" new cpu_us
row "new record: answers a second" new per_second
row "new record: p99 of an answer, us" new p99_us
row "retry: CPU an answer, us" same cpu_us
row "retry: answers a second" same per_second
row "retry: p99 of an answer, us" same p99_us
row "opening: CPU a datagram, us" opening cpu_us_per_datagram
row "opening: last WINDOW after, ms" opening last_ms
row "start with $members: ms" replay replay_ms
row "start with $members: CPU, ms" replay cpu_ms
row "start with $members: memory, MB" replay memory_mb
