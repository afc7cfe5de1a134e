#!/usr/bin/env bash
# shellcheck source=scripts/real_clients/trial.sh
. "${BASH_SOURCE%/*}/trial.sh"

export CODEX_HOME=$HOME/codex
mkdir -p "$CODEX_HOME" && cd "$HOME" || exit
cat >"$CODEX_HOME/config.toml" <<END
model = "tiny"
web_search = "disabled" # else a tool of OpenAI's servers, where nothing is confirmed by hand
model_provider = "llmhost"

[model_providers.llmhost]
name = "llmhost"
base_url = "$URL/v1"
wire_api = "responses"
request_max_retries = 0
stream_max_retries = 0
END

# What it did goes to standard error, its last words to standard output.
codex_exec() {
    timeout 180 codex exec --skip-git-repo-check --dangerously-bypass-approvals-and-sandbox "$@" 2>log || cat log
}
trial "runs a command and reads its result" "said-by-a-tool" codex_exec "Say something with a command."
trial "unknown model" "served are: tiny" codex_exec -m huge "Hello"
