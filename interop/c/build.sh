#!/bin/sh
# Builds the programs into the folder $1. Run in the workspace's folder.
set -eu
to=$1
mkdir -p "$to/proto/usgs/v1"
# protobuf-c 1.4 reads no `optional` of proto3. The bytes of proto2 are the same.
sed -E 's/^syntax = .*/syntax = "proto2";/; s/^  ([a-z0-9]+|[A-Z][A-Za-z]*|google\.[A-Za-z.]+) ([a-z_]+ = [0-9]+;)/  optional \1 \2/' \
    proto/usgs/v1/quake.proto > "$to/proto/usgs/v1/quake.proto"
protoc -I "$to/proto" --c_out "$to" usgs/v1/quake.proto google/protobuf/timestamp.proto
for program in vectors peer; do
    cc -std=gnu11 -Wall -Wextra -O1 -g -fsanitize=address,undefined -fno-sanitize-recover -I interop/c -I "$to" \
        -o "$to/$program.bin" interop/c/reader.c interop/c/writer.c "interop/c/$program.c" \
        "$to/usgs/v1/quake.pb-c.c" "$to/google/protobuf/timestamp.pb-c.c" -lrabbitmq -lprotobuf-c -ljansson -lz
    printf '#!/bin/sh\nASAN_OPTIONS=detect_leaks=0 exec "%s" "$@"\n' "$to/$program.bin" > "$to/$program"
    chmod +x "$to/$program"
done
