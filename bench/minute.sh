#!/bin/bash
# The opening of a window, as its members see it:
#   bench/minute.sh [ROUNDS]
# for 1,000, 10,000 and 100,000 members of one room. Raw lines go to docs/benchmarks/minute.jsonl, the
# delay over members to docs/benchmarks/minute.svg.
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

machine
for round in $(seq "$rounds"); do
    for members in 1000 10000 100000; do
        window=5s
        [ "$members" -lt 100000 ] || window=20s
        serve --window "$window" --workers 1
        load minute "$addr" --pid "$pid" --members "$members" | jq -c --argjson round "$round" '{$round} + .' | tee -a "$raw" |
            jq -r 'def r: . * 100 | round / 100; "round \(.round): \(.members) members, \(.datagrams) datagrams, \(.lost) lost, first \(.first_ms | r) ms, last \(.last_ms | r) ms, \(.cpu_us_per_datagram | r) us a datagram, REGISTER meanwhile p99 \(.register_p99_us) us"'
        stop "$pid"
    done
done

column() { jq -r "select(.members == $1) | .$2" "$raw" | spread; }
for members in 1000 10000 100000; do
    echo
    echo "$members members                      min  median  max"
    printf '  first WINDOW, ms             %s\n' "$(column "$members" first_ms)"
    printf '  last WINDOW, ms              %s\n' "$(column "$members" last_ms)"
    printf '  CPU a datagram, us           %s\n' "$(column "$members" cpu_us_per_datagram)"
    printf '  REGISTER meanwhile, p99 us   %s\n' "$(column "$members" register_p99_us)"
    printf '  datagrams lost               %s\n' "$(column "$members" lost)"
done
echo
echo "budgets for 10,000: first at most 5 ms, last at most 250 ms, 1.5 us a datagram, REGISTER p99 at most 10 ms"

# The delay of each twentieth of the datagrams, in the last round.
for members in 1000 10000 100000; do
    jq -r "select(.members == $members and .round == $rounds) | .delays_ms | to_entries[] | \"\(.key * 5) \(.value)\"" "$raw" >"$work/$members"
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
