#!/bin/sh
# Makes the programs in the folder $1. Run in the workspace's folder.
set -eu
to=$1
for program in vectors peer; do
    printf '#!/bin/sh\nNODE_PATH=%s PROTO=%s exec node %s "$@"\n' \
        "$to/node_modules" "$PWD/proto" "$PWD/interop/node/$program.js" > "$to/$program"
    chmod +x "$to/$program"
done
