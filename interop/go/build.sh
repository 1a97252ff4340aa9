#!/bin/sh
# Builds the programs into the folder $1, from Debian's Go libraries. Run in the workspace's folder.
set -eu
to=$1
root=$PWD
mkdir -p "$to/path/src/interop"
for package in wire peer vectors; do ln -sfn "$root/interop/go/$package" "$to/path/src/interop/$package"; done
export GO111MODULE=off GOFLAGS= GOPATH="$to/path:/usr/share/gocode" GOCACHE="$to/cache"
cd /
go build -o "$to/bin/protoc-gen-go" google.golang.org/protobuf/cmd/protoc-gen-go
PATH="$to/bin:$PATH" protoc -I "$root/proto" --go_out "$to/path/src" \
    --go_opt=Musgs/v1/quake.proto=interop/quakes usgs/v1/quake.proto
go vet interop/wire interop/peer interop/vectors
go build -o "$to/" interop/vectors interop/peer
