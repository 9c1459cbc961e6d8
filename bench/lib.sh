# What the scripts here share; they source it from the project's root.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
bench=$root/bench/target/release/hit7-bench
hit7=$root/target/release/hit7
# The server on one core, the load on another.
server_core=${SERVER_CORE:-0} load_core=${LOAD_CORE:-1}
running=()

die() { echo "$0: $*" >&2; exit 1; }

tools() {
    [ "$(nproc)" -ge 2 ] || die "two cores are needed: one for the server, one for the load"
    local missing=() tool
    for tool in "$@"; do command -v "$tool" >/dev/null || missing+=("$tool"); done
    [ ${#missing[@]} = 0 ] && return
    echo "installing ${missing[*]}" >&2
    (apt-get -qq update && apt-get -qq install -y --no-install-recommends "${missing[@]/gnuplot/gnuplot-nox}") >/dev/null 2>&1 ||
        die "cannot install ${missing[*]}"
}

build() {
    (cd "$root" && cargo build --release --locked --quiet)
    build_bench
}

build_bench() { (cd "$root/bench" && cargo build --release --locked --quiet); }

stop_all() { for pid in "${running[@]}"; do kill "$pid" 2>/dev/null || true; done; running=(); }
trap 'stop_all; rm -rf "$work"' EXIT
work=$(mktemp -d)

# Starts a registry on the server's core; sets pid and addr.
serve() {
    local dir
    dir=$(mktemp -d "$work/serve.XXXX")
    out=$dir/out data=$dir/data
    taskset -c "${cores:-$server_core}" "$hit7" serve 127.0.0.1 0 --plain --data "$data" "$@" >"$out" 2>"$dir/err" &
    pid=$!
    running+=("$pid")
    for _ in $(seq 100); do grep -qs '^data in' "$out" && break; sleep 0.1; done
    addr=$(sed -n 's/^listening on //p' "$out" | head -1)
    [ -n "$addr" ] || die "no registry: $(cat "$dir/err")"
}

stop() { kill "$1" 2>/dev/null || true; wait "$1" 2>/dev/null || true; }

load() { taskset -c "$load_core" "$bench" "$@"; }

# Minimum, median and maximum of numbers on stdin.
spread() {
    sort -g | awk '{ v[NR] = $1 } END {
        m = NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2
        printf "%.2f  %.2f  %.2f\n", v[1], m, v[NR] }'
}

machine() {
    echo "machine: $(nproc) cores, $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1), Linux $(uname -r)"
    echo "date:    $(date -u +%Y-%m-%d), $(cd "$root" && git rev-parse --short HEAD)"
}
