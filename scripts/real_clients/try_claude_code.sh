#!/usr/bin/env bash
# shellcheck source=scripts/real_clients/trial.sh
. "${BASH_SOURCE%/*}/trial.sh"

export ANTHROPIC_BASE_URL=$URL ANTHROPIC_API_KEY=none ANTHROPIC_MODEL=tiny ANTHROPIC_SMALL_FAST_MODEL=tiny
export DISABLE_AUTOUPDATER=1 DISABLE_TELEMETRY=1 CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1 IS_SANDBOX=1
cd "$HOME" || exit

trial "runs a command and reads its result" "The tool said: said-by-a-tool" \
    timeout 180 claude -p "Say something with a command." --allowedTools Bash
trial "streams" "message_stop" timeout 180 claude -p "Say something with a command." --allowedTools Bash \
    --output-format stream-json --verbose --include-partial-messages
trial "unknown model" "model (huge)" timeout 180 claude -p "Hello" --model huge
