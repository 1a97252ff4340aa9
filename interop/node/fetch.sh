#!/bin/sh
# Installs the libraries into the folder $1. Run in the workspace's folder.
set -eu
to=$1
cp interop/node/package.json "$to/package.json"
npm install --prefix "$to" --silent --no-audit --no-fund --no-package-lock
