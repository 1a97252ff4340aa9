#!/bin/sh
# Builds the programs into the folder $1. Run in the workspace's folder.
set -eu
to=$1
jars=/usr/share/java
path=$jars/amqp-client.jar:$jars/protobuf.jar:$jars/protobuf-util.jar:$jars/gson.jar:$jars/guava.jar:$jars/slf4j-api.jar:$jars/slf4j-nop.jar
mkdir -p "$to/generated" "$to/classes"
protoc -I proto --java_out "$to/generated" usgs/v1/quake.proto
javac -Xlint:all,-processing,-serial,-try -encoding UTF-8 -cp "$path" -d "$to/classes" interop/java/*.java \
    $(find "$to/generated" -name '*.java')
for program in vectors:Vectors peer:Peer; do
    name=${program%%:*}
    printf '#!/bin/sh\nexec java -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Dfile.encoding=UTF-8 -cp %s %s "$@"\n' \
        "$to/classes:$path" "${program##*:}" > "$to/$name"
    chmod +x "$to/$name"
done
