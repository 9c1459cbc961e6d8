#!/bin/bash
# Minutes at half of capacity, then at twice of it:
#   bench/soak.sh [MINUTES]
# with windows of ten seconds. Memory, how late windows open, and that each registration that was
# acked is in its window's document. Raw lines go to docs/benchmarks/soak.txt, the plot of memory and
# lateness to docs/benchmarks/soak.svg.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
minutes=${1:-20}
raw=$root/docs/benchmarks/soak.txt
plot=$root/docs/benchmarks/soak.svg
tools jq gnuplot
build
mkdir -p "$(dirname "$raw")"
exec > >(tee "$raw")
proven=(--window 10s --trust 192.0.2.1 --rate 1000000 --burst 1000000 --workers 1)

# Each acked "window addr" that is not in the window's document: none may be missing.
check() {
    local acked=$1 last
    sleep 11
    find "$data/windows" -name '*.json' -exec jq -r '.window as $w | .rooms[][] | "\($w) \(.addr)"' {} + | sort -u >"$work/documented"
    sort -u "$acked" >"$work/acked"
    echo "acked registrations: $(wc -l <"$work/acked"), lost: $(comm -23 "$work/acked" "$work/documented" | wc -l)"
}

# How late windows opened, of those that had members.
late() {
    grep -o 'opened [0-9.]* m\?s late' "$out" | awk '{ ms = $3 == "s" ? $2 * 1000 : $2; n++; s += ms; if (ms > 50) over++; if (ms > max) max = ms }
        END { printf "windows opened: %d, late on the average %.1f ms, at most %.1f ms, by more than 50 ms: %d\n", n, s / n, max, over }'
}

machine
serve "${proven[@]}"
capacity=$(load hit7 new "$addr" --pid "$pid" --clients 1000 --warm-up 11 --seconds 5 | jq .per_second)
stop "$pid"
echo "capacity: $capacity answers a second"

serve "${proven[@]}"
echo "half of it, $((capacity / 2))/s, for $minutes minutes"
: >"$work/memory"
(while sleep 5; do echo "$SECONDS $(sed -n 's/^VmRSS:[^0-9]*\([0-9]*\) kB/\1/p' "/proc/$pid/status")"; done >>"$work/memory" 2>/dev/null) &
watcher=$!
running+=("$watcher")
load hit7 new "$addr" --pid "$pid" --clients 1000 --warm-up 11 --seconds $((minutes * 60)) \
    --rate $((capacity / 2)) --acked "$work/told" | tee "$work/half.json" | jq -c .
stop "$watcher"
late
check "$work/told"
# From a tenth of the time on: before, tables grow to the size that they need.
awk -v n="$(wc -l <"$work/memory")" 'NR > n / 10 { if (!min || $2 < min) min = $2; if ($2 > max) max = $2; if (!first) first = $2; last = $2 }
    END { printf "memory: %.1f MB to %.1f MB, from first to last %+.1f %%\n", min / 1000, max / 1000, (last - first) * 100 / first }' "$work/memory"
grep -o 'opened [0-9.]* m\?s late' "$out" | awk '{ print NR * 10, $3 == "s" ? $2 * 1000 : $2 }' >"$work/late"
stop "$pid"

# One core cannot offer twice what another can answer: here the registry has half of its core, and
# what it can with that is measured first.
taskset -c "$server_core" sh -c 'while :; do :; done' &
running+=($!)
serve "${proven[@]}"
capacity=$(load hit7 new "$addr" --pid "$pid" --clients 1000 --warm-up 11 --seconds 10 | jq .per_second)
stop "$pid"
echo "capacity with half of a core: $capacity answers a second"

serve "${proven[@]}"
echo "twice of it, $((capacity * 2))/s"
load hit7 new "$addr" --pid "$pid" --clients 10006 --warm-up 11 --seconds 60 \
    --rate $((capacity * 2)) --acked "$work/told" | jq -c . | tee "$work/twice.json"
jq -r --argjson capacity "$capacity" '"offered \(.asked / 60 | floor)/s, answered \(.per_second)/s: \(.per_second * 100 / $capacity | floor) % of capacity"' "$work/twice.json"
late
check "$work/told"
stop "$pid"

gnuplot <<PLOT
set terminal svg size 720,420 dynamic background "white" font "sans-serif,13"
set output "$plot"
set multiplot layout 2,1
set grid
set xlabel "seconds"
set ylabel "memory, MB"
set yrange [0:]
plot "$work/memory" using 1:(\$2 / 1000) with lines linewidth 2 notitle
set ylabel "windows opened late by, ms"
plot "$work/late" using 1:2 with points pointtype 7 pointsize 0.4 notitle
unset multiplot
PLOT
echo "plot: ${plot#"$root"/}"
