#!/bin/sh
# Makes the programs of both peers, in the folders $1 and $1-aio-pika. Run in the workspace's folder.
set -eu
to=$1
python=$PWD/interop/python
mkdir -p "$to/generated"
"$to/environment/bin/python" -m grpc_tools.protoc -I proto --python_out "$to/generated" usgs/v1/quake.proto
program() {
    printf '#!/bin/sh\nPYTHONDONTWRITEBYTECODE=1 PYTHONPATH=%s exec %s %s "$@"\n' \
        "$to/generated" "$to/environment/bin/python" "$python/$2" > "$1"
    chmod +x "$1"
}
mkdir -p "$to-aio-pika"
program "$to/vectors" vectors.py
program "$to/peer" pika_peer.py
program "$to-aio-pika/vectors" vectors.py
program "$to-aio-pika/peer" aio_pika_peer.py
