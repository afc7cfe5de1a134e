#!/usr/bin/env bash
# shellcheck source=scripts/real_clients/trial.sh
. "${BASH_SOURCE%/*}/trial.sh"

asks='{"model": "tiny", "messages": [{"role": "user", "content": "curl"}]'
post() { curl -sS "$URL$1" -H 'content-type: application/json' -d "$2" "${@:3}"; }

trial "chat" 'Hello, Wörld!' post /v1/chat/completions "$asks}"
trial "exact hit" 'x-llmhost-cache: exact' post /v1/chat/completions "$asks}" -D -
trial "stream of OpenAI's API" 'data: [DONE]' post /v1/chat/completions "$asks, \"stream\": true}" -N
trial "stream of Ollama's API" '"done":true' post /api/chat "$asks}" -N
trial "stream of Anthropic's API" 'message_stop' post /v1/messages "$asks, \"max_tokens\": 9, \"stream\": true}" -N
trial "unknown model" '404' post /v1/chat/completions '{"model": "huge", "messages": [{"role": "user", "content": "x"}]}' -w '%{http_code}'
