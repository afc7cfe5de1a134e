#!/usr/bin/env bash
# shellcheck source=scripts/real_clients/trial.sh
. "${BASH_SOURCE%/*}/trial.sh"

export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@localhost GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@localhost
export OPENAI_API_KEY=none OPENAI_API_BASE=$URL/v1 OLLAMA_API_BASE=$URL

# write MODEL: has aider write a program in a new repository; prints what that says, or what aider said.
write() {
    local folder
    folder=$(mktemp -d "$HOME/aider.XXXX") && cd "$folder" && git init -q
    timeout 180 aider --model "$1" --message "Write hello.py, which prints a greeting." --yes-always --no-pretty \
        --analytics-disable --no-check-update --no-show-release-notes --no-show-model-warnings --no-gitignore \
        --no-detect-urls hello.py >log 2>&1
    if [ -z "$(git status --porcelain hello.py)" ]; then echo "$(python3 hello.py) is committed"; else cat log; fi
}
trial "openai: writes a file" "Hello, Wörld! is committed" write openai/tiny
trial "ollama_chat: writes a file" "Hello, Wörld! is committed" write ollama_chat/tiny
