#!/usr/bin/env bash
# One run by N processes on this machine: launch/local.sh N ARGUMENTS OF gaxn.main
#
#     launch/local.sh 2 --config configs/attn_cgan_shapes.py
#
# SIGTERM and Ctrl-C go to all of them; they save and leave. The exit status is that of the first
# process that did not end well, or 0. GAXN_PORT: where they meet (by default a free port).
set -u
if ! [[ ${1:-} =~ ^[1-9][0-9]*$ ]]; then
    echo "launch/local.sh: N is '${1:-}'; valid is a number of processes, 1 or more" >&2
    exit 2
fi
count=$1
shift
free='import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
port=${GAXN_PORT:-$(python -c "$free")}
processes=()
trap 'kill -TERM "${processes[@]}" 2>/dev/null' TERM INT
for ((index = 0; index < count; index++)); do
    python -m gaxn.main "$@" --coordinator "127.0.0.1:$port" --processes "$count" --process "$index" &
    processes+=($!)
done
status=0
for process in "${processes[@]}"; do
    # A trap ends a wait early: the process may still be saving.
    while :; do
        wait "$process"
        own=$?
        kill -0 "$process" 2>/dev/null || break
    done
    if ((status == 0)); then status=$own; fi
done
exit "$status"
