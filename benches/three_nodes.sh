#!/bin/sh
# Three nodes of RabbitMQ in one cluster on this machine, for `benches --bin replication`:
#   eval "$(benches/three_nodes.sh up /tmp/three)"; cargo run --release -p benches --bin replication -- $NODES
#   benches/three_nodes.sh down /tmp/three
# Not the harness's cluster, because that has proxies between its nodes, which would be measured too. Nodes and their
# epmd listen on loopback alone.
set -eu

folder=${2:?"usage: three_nodes.sh up|down FOLDER"}
bin=/usr/lib/rabbitmq/bin
export ERL_EPMD_PORT=24369 ERL_EPMD_ADDRESS=127.0.0.1

ctl() {
    number=$1
    shift
    HOME=$folder/$number "$bin/rabbitmqctl" -q -n "three$number@localhost" "$@"
}

start() {
    home=$folder/$1
    mkdir -p "$home"
    echo three > "$home/.erlang.cookie"
    chmod 600 "$home/.erlang.cookie"
    echo '[].' > "$home/plugins"
    cat > "$home/rabbitmq.conf" << CONF
listeners.tcp.1 = 127.0.0.1:2467$1
vm_memory_high_watermark.absolute = 3GB
disk_free_limit.absolute = 100MB
CONF
    # Schedulers that wait sleep: three nodes on few cores would else spin away each other's time.
    env HOME="$home" RABBITMQ_NODENAME="three$1@localhost" RABBITMQ_CONFIG_FILE="$home/rabbitmq.conf" \
        RABBITMQ_MNESIA_BASE="$home/data" RABBITMQ_LOG_BASE="$home/log" RABBITMQ_DIST_PORT="2567$1" \
        RABBITMQ_ENABLED_PLUGINS_FILE="$home/plugins" RABBITMQ_PID_FILE="$home/pid" \
        RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="+sbwt none +sbwtdcpu none +sbwtdio none \
            -kernel inet_dist_use_interface {127,0,0,1}" \
        setsid "$bin/rabbitmq-server" > "$home/out" 2>&1 &
}

case $1 in
up)
    for number in 1 2 3; do start "$number"; done
    for number in 1 2 3; do
        tries=60
        until ctl "$number" await_startup > /dev/null 2>&1; do
            tries=$((tries - 1))
            [ "$tries" -gt 0 ] || { echo "node $number does not start: see $folder/$number/out" >&2; exit 1; }
            sleep 1
        done
    done
    for number in 2 3; do
        for command in stop_app "join_cluster three1@localhost" start_app; do
            # The words of a command are several arguments.
            ctl "$number" $command > "$folder/$number/join" 2>&1
        done
    done
    nodes=
    for number in 1 2 3; do
        nodes="$nodes --node 127.0.0.1:2467$number=$(ctl "$number" eval 'os:getpid().' | tr -d '"')"
    done
    echo "NODES='$nodes'"
    ;;
down)
    for number in 1 2 3; do ctl "$number" stop || true; done
    ;;
*)
    echo "usage: three_nodes.sh up|down FOLDER" >&2
    exit 2
    ;;
esac
