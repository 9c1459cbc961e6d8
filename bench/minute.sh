#!/bin/bash
# The opening of a window, as its members see it:
#   bench/minute.sh [ROUNDS]
# for 1,000, 10,000 and 100,000 members of one room, three times each:
#   beside   while somebody else registers a thousand times a second
#   alone    with nothing beside: what a datagram costs
#   trains   the same, and members take trains whole: to cut them is their hosts' work, as it is where
#            they have hosts of their own, and not the registry's, as it is at loopback
# and beside each of the latter two the floor: a bare loop that sends as many trains from one buffer.
# Raw lines go to docs/benchmarks/minute.jsonl, the delay over members to docs/benchmarks/minute.svg.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
rounds=${1:-5}
raw=$root/docs/benchmarks/minute.jsonl
plot=$root/docs/benchmarks/minute.svg
tools jq gnuplot
build
mkdir -p "$(dirname "$raw")"
: >"$raw"
exec > >(tee "${raw%.jsonl}.txt")

opening() {
    local what=$1 members=$2 window=5s
    shift 2
    [ "$members" -lt 100000 ] || window=20s
    # With room for who registers beside.
    serve --window "$window" --workers 1 --max-room 0
    load minute "$addr" --pid "$pid" --members "$members" "$@" | jq -c --arg what "$what" --argjson round "$round" '{$round, $what} + .' | tee -a "$raw" |
        jq -r 'def r: . * 100 | round / 100; "round \(.round), \(.what): \(.members) members, \(.datagrams) datagrams, \(.lost) lost, first \(.first_ms | r) ms, last \(.last_ms | r) ms, \(.cpu_us_per_datagram | r) us a datagram, REGISTER meanwhile p99 \(.register_p99_us) us"'
    stop "$pid"
}

# What the kernel takes by itself.
floor() {
    local what=$1 members=$2
    shift 2
    "$bench" floor --members "$members" --cores "$server_core" "$load_core" "$@" | jq -c --arg what "$what" --argjson members "$members" --argjson round "$round" '{$round, $what, $members} + .' | tee -a "$raw" |
        jq -r 'def r: . * 100 | round / 100; "round \(.round), \(.what): \(.members) members, \(.datagrams) datagrams, \(.cpu_us_per_datagram | r) us a datagram"'
}

machine
for round in $(seq "$rounds"); do
    for members in 1000 10000 100000; do
        opening beside "$members"
        opening alone "$members" --probes 0
        floor "alone, floor" "$members"
        opening trains "$members" --probes 0 --trains
        floor "trains, floor" "$members" --trains
    done
done

column() { jq -r "select(.what == \"$1\" and .members == $2) | .$3" "$raw" | spread; }
for members in 1000 10000 100000; do
    echo
    echo "$members members                                  min  median  max"
    printf '  first WINDOW, ms                         %s\n' "$(column beside "$members" first_ms)"
    printf '  last WINDOW, ms                          %s\n' "$(column beside "$members" last_ms)"
    printf '  REGISTER meanwhile, p99 us               %s\n' "$(column beside "$members" register_p99_us)"
    printf '  datagrams lost                           %s\n' "$(column beside "$members" lost)"
    printf '  CPU a datagram, us, all that is beside   %s\n' "$(column beside "$members" cpu_us_per_datagram)"
    printf '  CPU a datagram, us, alone                %s\n' "$(column alone "$members" cpu_us_per_datagram)"
    printf '    its floor: the kernel, a bare loop     %s\n' "$(column "alone, floor" "$members" cpu_us_per_datagram)"
    printf '  CPU a datagram, us, trains taken whole   %s\n' "$(column trains "$members" cpu_us_per_datagram)"
    printf '    its floor                              %s\n' "$(column "trains, floor" "$members" cpu_us_per_datagram)"
done
echo
echo "budgets for 10,000: first at most 5 ms, last at most 250 ms, 1.5 us a datagram, REGISTER p99 at most 10 ms"

# The delay of each twentieth of the datagrams, in the last round.
for members in 1000 10000 100000; do
    jq -r "select(.what == \"beside\" and .members == $members and .round == $rounds) | .delays_ms | to_entries[] | \"\(.key * 5) \(.value)\"" "$raw" >"$work/$members"
done
gnuplot <<PLOT
set terminal svg size 720,420 dynamic background "white" font "sans-serif,13"
set output "$plot"
set xlabel "members told, %"
set ylabel "after the boundary, ms"
set logscale y
set grid
set key left top
plot for [n in "1000 10000 100000"] "$work/".n using 1:2 with lines linewidth 2 title n." members"
PLOT
echo "plot: ${plot#"$root"/}"
