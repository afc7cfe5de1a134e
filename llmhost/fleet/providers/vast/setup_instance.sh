#!/usr/bin/env bash
# What a rented worker runs at every boot: docs/worker.md. It comes in the environment, compressed, and so do its
# configuration and its identity (identity.py). Where the worker has a gateway of its own, worker_gateway.sh is before it.
set -u
trap '' HUP # it outlives the shell that started it
export LC_ALL=C HOME="${HOME:-/root}"
# What it starts does not get the secrets.
export -n LLMHOST_TOKEN LLMHOST_KEY CONTAINER_API_KEY
unset "${!LLMHOST_SCRIPT_@}"

# Its files are in memory: a full disk stops neither the front door nor the dead-man switch.
dir=${LLMHOST_ROOT:-}/dev/shm/llmhost
disk=${LLMHOST_ROOT:-}/var/lib
mkdir -p "$dir" || {
    dir=$disk/llmhost
    mkdir -p "$dir"
}
port=${LLMHOST_ENGINE_PORT:-11434}
pause=${LLMHOST_PAUSE:-5} # seconds between two looks

# As a JSON string. What is not printable ASCII becomes a question mark.
quote() {
    local text=${1:0:300}
    text=${text//[^ -~]/?}
    text=${text//\\/\\\\}
    printf '"%s"' "${text//\"/\\\"}"
}

# Replaces a file that nginx serves, in one step.
publish() { cat >"$dir/$1.new" && mv "$dir/$1.new" "$dir/$1"; }

# Says how far it has come: name, detail, fraction.
stage() {
    [ "${3-}" ] || echo "llmhost: $1: $2"
    printf '{"stage":"%s","detail":%s,"fraction":%s,"at":%(%s)T}' "$1" "$(quote "$2")" "${3:-null}" -1 |
        publish progress
}

ask() { curl -s --noproxy '*' "http://127.0.0.1:$port/api/$1" "${@:2}"; }
answers() { ask version -fm5 -o /dev/null; }
alive() { kill -0 "$1" 2>/dev/null; }
has() { command -v "$1" >/dev/null; }

pem() { printf -- "-----BEGIN $1-----\n%s\n-----END $1-----\n" "$(fold -w64)"; }

# The token is compared as a salted digest, so that the time it takes says nothing about it. nginx speaks to
# the engine from 127.0.0.2, so that the requests of those who have the token can be told in /proc/net/tcp. The
# buffer holds a whole body: no prompt is written to the disk. Ollama refuses foreign hosts.
identity() {
    local salt digest part
    umask 077
    for part in "${!LLMHOST_CERT_@}"; do printf %s "${!part}"; done | pem CERTIFICATE >"$dir/cert"
    printf %s "$LLMHOST_KEY" | pem 'PRIVATE KEY' >"$dir/key"
    salt=$(head -c16 /dev/urandom | base64)
    digest=$(printf %b "$(printf %s "${salt}Bearer $LLMHOST_TOKEN" | md5sum | sed 's/ .*//;s/../\\x&/g')" |
        base64 | tr +/ -_ | tr -d =)
    cat >"$dir/conf" <<EOF
daemon off;
user nobody nogroup;
pid $dir/pid;
error_log $dir/nginx.log;
events {
    worker_connections 4096;
}
http {
    $(printf "%s_temp_path $dir/%s;" {client_body,proxy,fastcgi,uwsgi,scgi}{,})
    server_tokens off;
    default_type application/json;
    client_header_timeout 9;
    log_format spoke 1;
    access_log $dir/spoken spoke if=\$secure_link;
    limit_req_zone \$server_port zone=rate:32k rate=$((20 * LLMHOST_PARALLEL))r/s;
    limit_req_status 429;
    limit_conn_zone \$server_port zone=open:32k;
    limit_conn_status 429;
    $(has gateway_upstreams && gateway_upstreams)
    server {
        listen ${LLMHOST_FRONT_PORT:-8443} ssl;
        ssl_certificate $dir/cert;
        ssl_certificate_key $dir/key;
        ssl_protocols TLSv1.2 TLSv1.3;
        secure_link $digest;
        secure_link_md5 $salt\$http_authorization;
        if (\$secure_link != 1) {
            return 401;
        }
        set \$asked "\$request_method \$uri";
        if (\$asked !~ "^(POST /api/(chat|embed|generate)|GET /(api/(ps|tags|version)|llmhost/(metrics|progress))${gateway_paths-})\z") {
            return 403;
        }
        limit_req zone=rate burst=$((40 * LLMHOST_PARALLEL)) nodelay;
        limit_conn open $((4 * LLMHOST_PARALLEL + 16));
        client_max_body_size $LLMHOST_MAX_BODY;
        client_body_buffer_size $LLMHOST_MAX_BODY;
        root ${dir%/*};
        proxy_bind 127.0.0.2;
        proxy_http_version 1.1;
        proxy_buffering off;
        proxy_read_timeout $LLMHOST_READ_TIMEOUT;
        proxy_set_header Host localhost;
        proxy_set_header Authorization "";
        location /api {
            proxy_pass http://127.0.0.1:$port\$uri;
        }
        $(has gateway_location && gateway_location)
    }
}
EOF
}

# Some builds of nginx cannot check the token; the one in nginx-extras can. Ollama's installer needs zstd.
door_fits() { nginx -V 2>&1 | grep -q secure_link; }
fits() { door_fits && has curl && { has ollama || has zstd; }; }
install() {
    dpkg --configure -a # a boot may have ended in the middle of an installation
    apt-get update -qq
    apt-get install -qqy --no-upgrade nginx curl ca-certificates zstd
    door_fits || apt-get install -qqy nginx-extras
}

# The text in a field of the JSON object in $line, into $value.
field() { [[ $line =~ \"$1\":\ ?\"(([^\"\\]|\\.)*)\" ]] && value=${BASH_REMATCH[1]}; }

# Progress is that of one layer; the first one is nearly all of the model.
pull() {
    local line value part seen=''
    stage pulling "$LLMHOST_MODEL"
    why='the download broke off'
    while read -r line; do
        if field error; then
            why=$value
            break
        fi
        [[ $line != *\"success\"* ]] || return 0
        [[ $line =~ \"total\":\ ?([1-9][0-9]*),\ ?\"completed\":\ ?([0-9]+) ]] || continue
        part=$((BASH_REMATCH[2] * 1000 / BASH_REMATCH[1]))
        [ $part = "$seen" ] || stage pulling "$LLMHOST_MODEL" ${part}e-3
        seen=$part
    done < <(ask pull -Ny600 -d "{\"model\":$model}")
    return 1
}

load() {
    local line value
    stage loading "$LLMHOST_MODEL"
    line=$(ask generate -m1800 -d "{\"model\":$model,\"stream\":false}")
    if [[ $line == *'does not support generate'* ]]; then # it embeds texts, and does nothing else
        line=$(ask embed -m1800 -d "{\"model\":$model,\"input\":\"Hi\"}")
    fi
    field error || value=$line
    why="cannot be loaded: $value"
    [[ $line == *\"done\":*true* || $line == *\"embeddings\":* ]]
}

prepare() {
    local line why model value=''
    stage arming 'the dead-man switch'
    until line=$(<"$dir/switch") && [[ $line == *\"armed\":true* ]]; do
        field detail
        if [ "$value" ]; then
            stage failed "the dead-man switch is not armed: $value"
            return
        fi
        sleep "$pause"
    done
    model=$(quote "$LLMHOST_MODEL")
    stage starting Ollama
    until answers; do sleep "$pause"; done
    for _ in {1..5}; do
        if { ask show -f -o /dev/null -d "{\"model\":$model}" || pull; } && load; then
            stage ready "$LLMHOST_MODEL"
            return
        fi
        sleep "$pause"
    done
    stage failed "$why"
}

door() { door_fits && nginx -c "$dir/conf" 2>>"$dir/nginx.log" 8>&- 9>&-; }

engine() {
    if answers && grep -q '"ready"' "$dir/progress"; then return; fi
    once prepare prepare
    if answers; then return; fi
    OLLAMA_HOST=127.0.0.1:$port OLLAMA_NUM_PARALLEL=$LLMHOST_PARALLEL OLLAMA_KEEP_ALIVE=$LLMHOST_KEEP_ALIVE \
        OLLAMA_CONTEXT_LENGTH=$LLMHOST_CONTEXT OLLAMA_MAX_QUEUE=$((2 * LLMHOST_PARALLEL)) \
        ollama serve >>"$dir/ollama.log" 2>&1 8>&- 9>&-
    tail -n9 "$dir/ollama.log"
}

# What has failed stays so: llmhost reads it, and takes another machine.
setup() {
    if grep -q '"failed"' "$dir/progress"; then
        return
    elif ! fits; then
        install
    elif has ollama; then
        engine
    else
        stage installing Ollama
        curl -fsSL https://ollama.com/install.sh | sh
        has ollama || stage failed 'Ollama cannot be installed'
    fi
}

# What a GPU does not tell, it calls [N/A].
gpus() {
    local number='(null|[0-9]+)'
    timeout 20 nvidia-smi --format=csv,noheader,nounits \
        --query-gpu=name,utilization.gpu,memory.used,memory.total,temperature.gpu |
        tr -cd ' !#-[]-~\n' | sed -nE "s/\[[^]]*]/null/g
            s/^([^,]*), $number, $number, $number, $number$/,{\"name\":\"\1\",\"utilisation\":\2e-2,\"memory_used_mb\":\3,\"memory_total_mb\":\4,\"temperature_c\":\5}/
            s/nulle-2/null/
            /^,/p"
}

metrics() {
    local line value='' models='[]' gpus
    gpus=$(gpus 2>/dev/null)
    start watch
    line=$(ask version -m5)
    field version
    line=$(ask ps -m5)
    [[ $line =~ ^\{\"models\":\ ?(\[.*\])\}$ ]] && models=${BASH_REMATCH[1]}
    printf '{"at":%(%s)T,"engine_version":%s,"gpus":[%s],"models":%s,"disk":%s,"switch":%s%s}' -1 \
        "$(quote "$value")" "${gpus#,}" "$models" "$(df -B1 --output=used,size "$disk" |
            sed -nE 's/^ *([0-9]+) +([0-9]+)$/{"used_gb":\1e-9,"total_gb":\2e-9}/p')" "$(<"$dir/switch")" "$(has gateway_report && gateway_report)" |
        publish metrics
    find "$dir" -name '*.log' -size +1M -exec truncate -s0 {} +
}

# Asks vast.ai about this instance, with METHOD, and prints the status of the answer. The key is this instance's
# own and destroys nothing else. Where curl cannot be had, openssl mostly can.
call() {
    local url=$LLMHOST_API_URL/api/v0/instances/$id/ host path
    if has curl; then
        printf 'header = "Authorization: Bearer %s"' "$key" |
            curl -sm60 -X "$1" -o /dev/null -w '%{http_code}' -K- "$url"
        return
    fi
    path=${url#*://} host=${path%%/*} path=/${path#*/}
    printf '%s %s HTTP/1.0\r\nHost: %s\r\nAuthorization: Bearer %s\r\nConnection: close\r\n\r\n' "$1" "$path" "$host" "$key" |
        converse "${url%%:*}" "${host%:*}" "${host##*:}" | sed -nE '1s/^HTTP\S+ ([0-9]+).*/\1/p'
}

# Sends what comes in to a scheme, host and port, and prints what comes back.
converse() {
    local port=443
    [ "$2" = "$3" ] || port=$3
    if [ "$1" = https ]; then
        timeout 60 openssl s_client -quiet -verify_return_error -verify_hostname "$2" -connect "$2:$port" 2>/dev/null
    else
        # shellcheck disable=SC2016 # that shell expands them
        timeout 60 bash -c 'exec 3<>"/dev/tcp/$0/$1" && cat >&3 && head -n1 <&3' "$2" "$port"
    fi
}

# Proves that the key is accepted, which is all that can be proved without destroying the instance. Says why not
# once that is certain.
arm() {
    local code
    if [ -z "$key" ] || [ -z "$id" ]; then
        unarmed='the container has no CONTAINER_API_KEY or no CONTAINER_ID'
        return
    fi
    code=$(call GET)
    case $code in
    200) armed=true unarmed='' ;;
    401 | 403) unarmed="vast.ai refuses its key (HTTP $code)" ;;
    *) ((++failures < 3)) || unarmed="vast.ai cannot be asked from it (HTTP ${code:-000})" ;;
    esac
}

give_back() {
    echo 'llmhost: no request has come for too long, so it destroys itself'
    call DELETE >/dev/null
}

# Counts seconds that no setting of the clock changes.
watch() {
    local now
    start metrics door setup ${gateway_port:+gateway}
    read -r now _ </proc/uptime
    now=${now%.*}
    if [ -s "$dir/spoken" ] || grep -qE ": 0100007F:($(printf '%04X|' "$port" ${gateway_port:+"$gateway_port"})) 0200007F:.... 01 " /proc/net/tcp; then
        : >"$dir/spoken"
        last=$now tries=0
    elif ((now - ${last:=$now} >= LLMHOST_ORPHAN_AFTER && tries++ % 6 == 0)); then
        give_back &
    fi
    $armed || ((looks++ % 6)) || arm
    switch
}

switch() {
    printf '{"armed":%s,"detail":%s,"at":%(%s)T}' $armed "$(quote "$unarmed")" -1 | publish switch
}

forever() {
    while :; do
        "$1"
        sleep "$pause"
    done
}

# Runs a command in the background, unless one of this name runs already.
once() {
    (
        flock -n 8 || exit 0
        "${@:2}"
    ) 8>"$dir/$1.lock" &
}

# Two of the loops start those that have died.
start() {
    local loop
    for loop; do once "$loop" forever "$loop"; done
}

exec 9>"$dir/lock"
flock -n 9 || exit 0 # an earlier run is alive
id=${CONTAINER_ID:-${VAST_CONTAINERLABEL-}} key=${CONTAINER_API_KEY-}
id=${id#C.}
last='' tries=0 looks=0 failures=0 armed=false unarmed=''
rm -f "$dir/metrics"
: >"$dir/spoken"
switch
stage installing nginx
(identity)
start watch metrics # each starts the other again, whichever dies first
