#!/bin/sh
# Makes the programs in the folder $1. Run in the workspace's folder.
set -eu
to=$1
mkdir -p "$to/generated"
protoc -I proto --ruby_out "$to/generated" usgs/v1/quake.proto
for program in vectors peer; do
    printf '#!/bin/sh\nexec ruby -I %s %s "$@"\n' "$to/generated" "$PWD/interop/ruby/$program.rb" > "$to/$program"
    chmod +x "$to/$program"
done
