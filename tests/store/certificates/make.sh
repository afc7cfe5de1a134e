#!/bin/sh
# Makes the certificates in this folder anew: an authority, and a server certificate for the name
# `localhost` alone. Valid from 2020 to 2120, whatever a test machine's clock says; the authority's key
# is thrown away.
set -eu
cd "$(dirname "$0")"
work=$(mktemp -d)
touch "$work/index"
echo 01 > "$work/serial"
cat > "$work/ca.cnf" <<END
[ca]
database = $work/index
serial = $work/serial
new_certs_dir = $work
default_md = sha256
policy = any
[any]
commonName = supplied
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[server]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectAltName = DNS:localhost
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
END

request() {
  openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$1" -keyout "$2" -out "$work/$3"
}
sign() {
  openssl ca -batch -notext -config "$work/ca.cnf" -name ca -keyfile "$work/authority.key" \
    -startdate 20200101000000Z -enddate 21200101000000Z "$@"
}

request "llmhost tests" "$work/authority.key" authority.csr
sign -selfsign -extensions authority -in "$work/authority.csr" -out authority.pem
request localhost server.key server.csr
sign -cert authority.pem -extensions server -in "$work/server.csr" -out server.pem
rm -r "$work"
