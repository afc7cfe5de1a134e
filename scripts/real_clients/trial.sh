# What the programs that try a command share; it is sourced.
# shellcheck shell=bash
set -uo pipefail

# trial WHAT WANTED COMMAND…: runs it, and prints whether what it printed has the wanted text in it.
trial() {
    local what=$1 wanted=$2 got
    shift 2
    got=$("$@" 2>&1 </dev/null)
    case $got in
        *"$wanted"*) printf 'ok\t%s\n' "$what" ;;
        *) printf 'failed\t%s: %s\n' "$what" "$(printf '%s' "$got" | tr -s '[:space:]' ' ' | tail -c 200)" ;;
    esac
}
