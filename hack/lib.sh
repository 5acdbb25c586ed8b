# What the scripts of this directory share: where things are kept and how they speak. Sourced, not run.

set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# Everything built or fetched stays outside the clone, so that a fresh clone starts warm.
cache=${NAVARCH_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/navarch}
export NAVARCH_CACHE=$cache
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$cache/target}
export NAVARCH_ROOT=$root
mkdir -p "$cache/tools"

say() { printf '%s\n' "$*" >&2; }
die() { say "${0##*/}: $*"; exit 1; }

# Seconds since $1 (a value of $SECONDS) as 1:07.
since() { local s=$((SECONDS - $1)); printf '%d:%02d' $((s / 60)) $((s % 60)); }

# Runs a command whose lines tell its progress. On a terminal they overwrite one line; in a log only the first and the
# last line are kept. The whole output goes to a file that is named when the command fails.
#   quietly LABEL LOG COMMAND...
quietly() {
    local label=$1 log=$2 start=$SECONDS status=0 line
    shift 2
    mkdir -p "$(dirname "$log")"
    if [ -t 2 ]; then
        { "$@" 2>&1 && echo 0 >"$log.status" || echo $? >"$log.status"; } | tee "$log" | while IFS= read -r line; do
            printf '\r\033[K%s %s  %.90s' "$label" "$(since "$start")" "$line" >&2
        done
        read -r status <"$log.status"
        rm -f "$log.status"
        printf '\r\033[K' >&2
    else
        "$@" >"$log" 2>&1 || status=$?
    fi
    if [ "$status" != 0 ]; then
        tail -n 15 "$log" >&2
        die "$label failed after $(since "$start"), exit code $status; the whole log is $log"
    fi
    say "$label  $(since "$start")"
}
