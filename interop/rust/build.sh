#!/bin/sh
# Links the programs of both peers, in the folders $1-lapin and $1-amqprs, to what cargo has built in the folder $2.
set -eu
for client in lapin amqprs; do
    mkdir -p "$1-$client"
    ln -sfn "$2/vectors" "$1-$client/vectors"
    ln -sfn "$2/$client-peer" "$1-$client/peer"
done
