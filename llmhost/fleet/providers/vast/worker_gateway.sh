#!/usr/bin/env bash
# The gateway of a rented worker, between its front door and its engine: docs/worker.md. setup_instance.sh, which
# comes after it, calls what is defined here.
# shellcheck disable=SC2034,SC2154 # used there, and from there

# They hold the password of Redis: what is started gets them as a file, and not in its environment.
export -n "${!LLMHOST_GATEWAY_FILES_@}"
gateway_port=${LLMHOST_GATE_PORT:-11435}
gateway_paths='|POST /v1/(chat/completions|completions|embeddings|messages|responses)|GET /v1/models'

# llmhost's own questions go to the engine: it has asked the cache, and says `no-store`. So does everything while
# there is no gateway.
gateway_upstreams() {
    cat <<EOF
upstream gateway {
        server 127.0.0.1:$gateway_port max_fails=0;
        server 127.0.0.1:$port backup;
    }
    map \$http_cache_control \$asked_server {
        default gateway;
        ~*no-store 127.0.0.1:$port;
    }
EOF
}

# An answer that has begun is not asked for again. What clients send as an API key is not a key of this gateway.
gateway_location() {
    cat <<EOF
proxy_set_header X-Api-Key "";
        proxy_set_header Api-Key "";
        proxy_next_upstream error timeout invalid_header http_500 http_502 http_503 non_idempotent;
        location ~ ^/(v1/|api/(chat|generate)\$) {
            proxy_pass http://\$asked_server\$uri;
        }
EOF
}

gateway_report() { [ ! -e "$dir/gateway" ] || printf ',"gateway":%s' "$(<"$dir/gateway")"; }

# Whether it serves, and where not, why.
gateway_says() { printf '{"serving":%s,"detail":%s}' "$1" "$(quote "$2")" | publish gateway; }

gateway_last_words() { grep . "$dir/gateway.log" | tail -n1; }

gateway_answers() { curl -sm5 --noproxy '*' -o /dev/null "http://127.0.0.1:$gateway_port/healthz"; }

# Debian's python3 comes without what makes an environment.
gateway_install() {
    if ! python3 -c 'import ensurepip, venv'; then
        apt-get update -qq
        apt-get install -qqy python3-venv
    fi
    python3 -m venv --clear "$1" && "$1/bin/pip" install -q --no-cache-dir --disable-pip-version-check "$LLMHOST_GATEWAY_PACKAGE"
}

# Installs it once the engine is ready, starts it, and ends it when it says nothing for three looks. What could
# not be installed is tried again after some minutes.
gateway() {
    local home=$disk/llmhost-gateway server silent=0
    if gateway_answers; then # its loop died, and it did not
        gateway_says true ''
        return
    fi
    gateway_says false 'it waits for the engine'
    grep -q '"ready"' "$dir/progress" || return
    if [ ! -e "$home/installed" ]; then
        gateway_says false 'it is being installed'
        if ! gateway_install "$home" >>"$dir/gateway.log" 2>&1 8>&- 9>&-; then
            gateway_says false "it cannot be installed: $(gateway_last_words)"
            echo "llmhost: no gateway: $(gateway_last_words)"
            for _ in {1..60}; do sleep "$pause"; done
            return
        fi
        : >"$home/installed"
    fi
    gateway_says false 'it is starting'
    (
        umask 077
        mkdir -p "$dir/files" && cd "$dir/files" || exit
        for part in "${!LLMHOST_GATEWAY_FILES_@}"; do printf %s "${!part}"; done | base64 -d | tar xz --no-same-owner
        LLMHOST_ENGINE_URL=http://127.0.0.1:$port LLMHOST_WORKER=vast-$id \
            exec "$home/bin/llmhost" --config llmhost.yaml serve --port "$gateway_port"
    ) >>"$dir/gateway.log" 2>&1 8>&- 9>&- &
    server=$!
    while alive "$server" && ((silent < 3)); do
        sleep "$pause"
        gateway_answers
        case $? in
        0)
            silent=0
            gateway_says true ''
            ;;
        28) ((++silent)) ;; # it took the connection, and said nothing
        esac
    done
    kill -9 "$server" 2>/dev/null
    gateway_says false "it has ended: $(gateway_last_words)"
}

