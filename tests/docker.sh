#!/usr/bin/env bash
# Builds the container image and runs it: the articles' producer and consumer against it, kill -9, an orderly stop.
#
#   tests/docker.sh
#
# That the binary is static and runs in an empty directory is tested everywhere. The rest uses the Docker engine that
# answers; where none does, one is started from Debian's docker.io (as root) with a directory and a socket of its own,
# no firewall rules and no registry, and is ended by its process id. Where that cannot be, it says SKIPPED and why.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

work=$(mktemp -d)
engine_pid=
project=leveret-test-$$
containers=("$project-broker" "$project-consumer")
images=()

say() { printf -- '-- %s\n' "$*"; }
fail() { echo "FAILED: $*" >&2; exit 1; }
skip() { echo "SKIPPED: the container image was not run: $*"; exit 0; }

cleanup() {
    local status=$?
    if ((status)) && docker info >/dev/null 2>&1; then
        for container in "${containers[@]}"; do docker logs "$container" 2>&1 | tail -n 20 || true; done
    fi
    if docker info >/dev/null 2>&1; then
        [[ -z ${compose:-} ]] || compose down --volumes >/dev/null 2>&1 || true
        docker rm --force --volumes "${containers[@]}" >/dev/null 2>&1 || true
        [[ -n $engine_pid ]] || ((${#images[@]} == 0)) || docker rmi --force "${images[@]}" >/dev/null 2>&1 || true
    fi
    if [[ -n $engine_pid ]]; then
        ((status == 0)) || tail -n 20 "$work/engine.log"
        kill "$engine_pid" 2>/dev/null || true
        wait "$engine_pid" 2>/dev/null || true
        umount "$work"/engine/exec/netns/* 2>/dev/null || true
    fi
    rm -rf "$work"
    exit "$status"
}
trap cleanup EXIT

# Waits until a command succeeds: await SECONDS WHAT COMMAND...
await() {
    local deadline=$((SECONDS + $1)) what=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        ((SECONDS < deadline)) || fail "$what did not happen in time"
        sleep 0.2
    done
}

installed() {
    command -v "$1" >/dev/null && return
    [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null || return
    say "installing $2"
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$2"; } \
        </dev/null >"$work/apt.log" 2>&1
}

start_engine() {
    docker info >/dev/null 2>&1 && { say "using the Docker engine that answers" && return; }
    [[ $(id -u) == 0 ]] || skip "no Docker engine answers, and starting one takes root"
    installed dockerd docker.io || skip "no Docker engine answers, and docker.io cannot be installed"
    mkdir "$work/engine"
    export DOCKER_HOST=unix://$work/engine/docker.sock
    dockerd --host "$DOCKER_HOST" --pidfile "$work/engine/pid" --data-root "$work/engine/data" \
        --exec-root "$work/engine/exec" --bridge none --iptables=false --ip6tables=false \
        >"$work/engine.log" 2>&1 &
    engine_pid=$!
    local deadline=$((SECONDS + 60))
    until docker info >/dev/null 2>&1; do
        if ! kill -0 "$engine_pid" 2>/dev/null || ((SECONDS > deadline)); then
            tail -n 5 "$work/engine.log"
            skip "a Docker engine cannot be started here"
        fi
        sleep 0.2
    done
    say "started a Docker engine, process $engine_pid"
}

# An image of this machine's Python with pika, so that no registry is needed.
python_base() {
    local root=$work/python python prefix stdlib library
    python3 -m venv "$work/venv"
    "$work/venv/bin/pip" install --quiet --disable-pip-version-check \
        "$(grep -i '^pika' tests/clients/python/requirements.txt)"
    { read -r python && read -r prefix && read -r stdlib; } < <(python3 -c '
import os, sys, sysconfig
print(os.path.realpath(sys.executable), sys.base_prefix, sysconfig.get_path("stdlib"), sep="\n")')
    mkdir -p "$root"/{bin,etc,tmp,packages} "$root$stdlib"
    tar -C "$stdlib" --exclude __pycache__ --exclude test --exclude tests --exclude 'config-*' --exclude ensurepip \
        --exclude idlelib --exclude lib2to3 --exclude site-packages --exclude dist-packages -cf - . |
        tar -C "$root$stdlib" -xf -
    cp -r "$("$work/venv/bin/python" -c 'import pika, os; print(os.path.dirname(pika.__file__))')" "$root/packages/"
    install "$python" "$root/bin/python3"
    while read -r library; do
        install -D "$(readlink -f "$library")" "$root$library"
    done < <(find "$stdlib/lib-dynload" -name '*.so' -exec ldd "$python" {} + | sed -n 's/^\t\([^ ]* => \)\{0,1\}\(\/[^ ]*\) (0x.*/\2/p' | sort -u)
    install target/docker/busybox "$root/bin/sh"
    tar -C "$root" -cf - . |
        docker import --change "ENV PATH=/bin PYTHONPATH=/packages PYTHONHOME=$prefix" - "$project-python" >/dev/null
    images+=("$project-python")
}

# Builds an image with what is here alone: build NAME ARGUMENT...
build() {
    docker build --network none --tag "$@" >"$work/build.log" 2>&1 || { cat "$work/build.log" && fail "docker build"; }
    images+=("$1")
}

healthy() { [[ $(docker inspect --format '{{.State.Health.Status}}' "$1") == healthy ]]; }
in_network() { docker run --rm --network host --env AMQP_HOST=127.0.0.1 --env AMQP_PORT="$port" "$@"; }
real_port() { docker exec "$project-broker" sed -n 's/.*"port": \([0-9]*\).*/\1/p' /run/leveret/ready.json; }

# Ten numbers, each once and in order.
received_all() {
    [[ $("$@" 2>/dev/null | grep -o 'Received [0-9]*' | tr -dc '0-9\n' | tr '\n' ' ') == "0 1 2 3 4 5 6 7 8 9 " ]]
}

say "building the static binary"
docker/build --files-only
mkdir "$work/empty"
cp target/docker/leveret "$work/empty/"
if [[ $(id -u) == 0 ]]; then
    version=$(chroot "$work/empty" /leveret --version) || fail "the binary does not run in an empty directory"
    say "runs in an empty directory: $version"
fi

start_engine
say "building the images"
build "$project" target/docker
python_base
build "$project-examples" --build-arg BASE="$project-python" --file docker/examples.Dockerfile examples
say "image of $(docker inspect --format '{{.Size}}' "$project") bytes"

say "running the broker"
docker run --detach --network host --name "$project-broker" --env LEVERET_LISTEN=127.0.0.1:0 \
    --env LEVERET_MANAGEMENT_LISTEN=none --env LEVERET_PROMETHEUS_LISTEN=none "$project" \
    --vhost /rabbitmq >/dev/null
await 60 "the container becoming healthy" healthy "$project-broker"
port=$(real_port)
[[ $(docker exec "$project-broker" sh -c 'id -un') == leveret ]] || fail "the broker does not run as leveret"

say "the producer and the consumer"
docker run --detach --network host --env AMQP_HOST=127.0.0.1 --env AMQP_PORT="$port" --name "$project-consumer" \
    "$project-examples" hello_consumer.py >/dev/null
in_network "$project-examples" hello_producer.py | grep -q 'Sent 9' || fail "the producer"
await 30 "receiving the ten numbers" received_all docker logs "$project-consumer"

say "kill -9"
in_network "$project-examples" medical_data.py
docker kill --signal KILL "$project-broker" >/dev/null
docker wait "$project-broker" >/dev/null
docker start "$project-broker" >/dev/null
await 60 "the container becoming healthy again" healthy "$project-broker"
port=$(real_port)
in_network "$project-examples" -c '
import os, pika
connection = pika.BlockingConnection(pika.ConnectionParameters(
    host=os.environ["AMQP_HOST"], port=int(os.environ["AMQP_PORT"]), virtual_host="/rabbitmq"))
method, properties, body = connection.channel().basic_get("medical_data", auto_ack=True)
assert body, "the record is gone"
print(" [x] Kept", body.decode())
connection.close()' || fail "the confirmed record did not survive"

say "an orderly stop"
docker stop --time 10 "$project-broker" >/dev/null
code=$(docker inspect --format '{{.State.ExitCode}}' "$project-broker")
[[ $code == 0 ]] || fail "the broker stopped with exit code $code"

compose() { $compose --project-name "$project" --file docker/compose.yml --file "$work/compose.yml" "$@"; }
compose=
if docker compose version >/dev/null 2>&1; then
    compose="docker compose"
elif command -v docker-compose >/dev/null; then
    compose=docker-compose
else
    echo "SKIPPED: docker/compose.yml was not run: there is no docker compose"
    exit 0
fi
say "docker/compose.yml"
# The same images under the test's names, and a port nobody uses.
cat >"$work/compose.yml" <<EOF
services:
  broker: {image: $project}
  consumer: {image: $project-examples}
  producer: {image: $project-examples}
EOF
free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("", 0)); print(s.getsockname()[1])'; }
LEVERET_PORT=$(free_port) LEVERET_MANAGEMENT_PORT=$(free_port)
export LEVERET_PORT LEVERET_MANAGEMENT_PORT
compose up --detach --no-build >"$work/compose.log" 2>&1 || { cat "$work/compose.log" && fail "compose up"; }
await 60 "receiving the ten numbers" received_all compose logs consumer
python3 - "$LEVERET_PORT" <<'EOF' || fail "the published port"
import socket, sys
with socket.create_connection(("127.0.0.1", int(sys.argv[1])), 5) as client:
    client.sendall(b"no AMQP\n")
    assert client.recv(8) == b"AMQP\x00\x00\x09\x01"
EOF
compose down --volumes >/dev/null 2>&1
echo "ok"
