#!/usr/bin/env bash
# Runs one experiment in N processes on this machine: launch/local.sh N ARGUMENTS OF gaxn.main
#
#     launch/local.sh 2 --config configs/attn_cgan_shapes.py
#
# SIGTERM and Ctrl-C go to all processes, which save and end. The exit status is that of the first
# process that failed, or 0. After a process is lost, the others abort within 30 s (status 134), and
# the same command goes on from the last checkpoint. GAXN_PORT: where the processes meet (by default
# a free port).
set -u
if ! [[ ${1:-} =~ ^[1-9][0-9]*$ ]]; then
    echo "launch/local.sh: N must be a number of processes, 1 or more, got '${1:-}'" >&2
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
        code=$?
        kill -0 "$process" 2>/dev/null || break
    done
    if ((status == 0)); then status=$code; fi
done
exit "$status"
