#!/bin/sh
# Installs the libraries into an environment in the folder $1. Run in the workspace's folder.
set -eu
to=$1
python3 -m venv "$to/environment"
"$to/environment/bin/pip" install --quiet --disable-pip-version-check --requirement interop/python/requirements.txt
