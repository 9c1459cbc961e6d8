#!/bin/bash
# What an answer costs, hit7's and two BitTorrent trackers', in one run on one machine:
#   bench/compare.sh [ROUNDS]
# Prints hit7's budgets as ratios to aquatic's announce, round by round, with minimum, median and
# maximum; the raw lines go to docs/benchmarks/compare.jsonl. On Debian it installs the trackers.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
rounds=${1:-5}
rivals=$root/bench/target/rivals
raw=$root/docs/benchmarks/compare.jsonl
# Each client has one request under way: nobody's answers go as one train.
crowd=(--clients 1000 --seconds 4)
# Loopback is a stranger, who has to return a cookie and is held to a rate, if a high one.
proven=(--trust 192.0.2.1 --rate 1000000 --burst 1000000 --workers 1)

tools jq opentracker

# Builds a crate of aquatic 0.9.0 with the versions that it was published with, but for `metrics`
# 0.22.3: Rust 1.95 and later do not compile it (a lifetime, which 0.22.4 has right). So the published
# sources are fetched into a folder, and the lock file in them is changed in that one place.
install_aquatic() {
    local crate=$1 dir=$work/$1
    mkdir -p "$dir/fetch/src"
    : >"$dir/fetch/src/lib.rs"
    printf '[package]\nname = "fetch"\nedition = "2021"\n[dependencies]\n%s = "=0.9.0"\n' "$crate" >"$dir/fetch/Cargo.toml"
    (cd "$dir/fetch" && cargo fetch --quiet)
    cp -r "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*/"$crate-0.9.0"/. "$dir"
    rm -r "$dir/fetch"
    if grep -q '^name = "metrics"$' "$dir/Cargo.lock"; then
        (cd "$dir" && cargo update --quiet --package metrics --precise 0.22.4)
    fi
    (cd "$dir" && cargo install --quiet --locked --root "$rivals" --path .)
}

for crate in aquatic_udp aquatic_udp_load_test; do
    [ -x "$rivals/bin/$crate" ] || install_aquatic "$crate"
done
build
mkdir -p "$(dirname "$raw")"
: >"$raw"
exec > >(tee "${raw%.jsonl}.txt")

note() { jq -c --arg what "$1" --argjson round "$round" '{$round, $what} + .' | tee -a "$raw" | jq -r '"  \(.what): \(.cpu_us * 100 | round / 100) us of CPU, \(.per_second)/s, p99 \(.p99_us) us"'; }

aquatic() {
    "$rivals/bin/aquatic_udp" -p | sed 's/^address = .*/address = "127.0.0.1:3000"/; s/^max_response_peers = .*/max_response_peers = 50/' >"$work/aquatic.toml"
    taskset -c "$server_core" "$rivals/bin/aquatic_udp" -c "$work/aquatic.toml" >/dev/null 2>&1 &
    pid=$!
    running+=("$pid")
    sleep 1
}

announces() {
    aquatic
    load tracker 127.0.0.1:3000 --pid "$pid" "${crowd[@]}" | note "aquatic announce"
    stop "$pid"
    taskset -c "$server_core" opentracker -i 127.0.0.1 -P 6969 -p 6969 >/dev/null 2>&1 &
    pid=$!
    running+=("$pid")
    sleep 1
    load tracker 127.0.0.1:6969 --pid "$pid" "${crowd[@]}" | note "opentracker announce"
    stop "$pid"
}

# In windows of ten seconds: the first fills the current roster, so that every answer has a full page.
registers() {
    local subject
    for subject in new same query; do
        serve --window 10s "${proven[@]}"
        load hit7 "$subject" "$addr" --pid "$pid" "${crowd[@]}" --warm-up 11 | note "hit7 $subject"
        stop "$pid"
    done
    serve --window 10s --trust 192.0.2.1
    load hit7 unproven "$addr" --pid "$pid" "${crowd[@]}" | note "hit7 stranger"
    stop "$pid"
    # At a rate that leaves room: how long it takes.
    serve --window 10s "${proven[@]}"
    load hit7 new "$addr" --pid "$pid" "${crowd[@]}" --warm-up 11 --rate 10000 | note "hit7 new at 10000/s"
    stop "$pid"
}

cpu_ns() { cat /proc/"$1"/task/*/schedstat | awk '{ ns += $1 } END { printf "%.0f", ns }'; }

# aquatic's own load generator, announces alone, as a check of ours.
own_load_test() {
    aquatic
    "$rivals/bin/aquatic_udp_load_test" -p | sed '
        s/^duration = .*/duration = 6/; s/^announce_peers_wanted = .*/announce_peers_wanted = 50/
        s/^weight_connect = .*/weight_connect = 1/; s/^weight_announce = .*/weight_announce = 99/; s/^weight_scrape = .*/weight_scrape = 0/
        s/^number_of_torrents = .*/number_of_torrents = 100/; s/^number_of_peers = .*/number_of_peers = 20000/' >"$work/load.toml"
    local before after rate
    before=$(cpu_ns "$pid")
    rate=$(taskset -c "$load_core" "$rivals/bin/aquatic_udp_load_test" -c "$work/load.toml" 2>/dev/null | sed -n 's/.*Average responses per second: //p' | tail -1)
    after=$(cpu_ns "$pid")
    stop "$pid"
    awk -v ns=$((after - before)) -v rate="$rate" 'BEGIN { printf "  aquatic by its own load test: %.2f us of CPU, %d/s\n", ns / 1000 / (rate * 6), rate }'
}

machine
for round in $(seq "$rounds"); do
    echo "round $round"
    announces
    registers
done
own_load_test || echo "  (its own load test did not run)"

ratio() { jq -rs --arg what "$1" 'group_by(.round)[] | (map(select(.what == $what))[0].cpu_us) / (map(select(.what == "aquatic announce"))[0].cpu_us)' "$raw" | spread; }
echo
echo "CPU per answer, as a ratio to aquatic's announce in the same round: min  median  max"
for what in "hit7 new" "hit7 same" "hit7 query" "hit7 stranger" "opentracker announce"; do
    printf '  %-22s %s\n' "$what" "$(ratio "$what")"
done
echo "budgets: new at most 0.95, same at most 0.85"
printf 'p99 of an answer at 10,000 registrations a second, ms: min  median  max   %s\n' \
    "$(jq -r 'select(.what == "hit7 new at 10000/s") | .p99_us / 1000' "$raw" | spread)"
echo "budget: at most 5"
