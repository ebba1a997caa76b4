#!/usr/bin/env bash
# One run on every worker of a TPU slice, which is requested as a queued resource:
#
#     launch/tpu_pod.sh NAME ZONE TYPE VERSION BUCKET ARGUMENTS OF gaxn.main
#     launch/tpu_pod.sh gaxn us-central2-b v4-16 tpu-ubuntu2204-base gs://mine/gaxn \
#         --config configs/sagan_celeba.py --workdir /mnt/runs/sagan
#
# Waits until the slice is active, copies this checkout to every worker, mounts the bucket, installs
# and trains. The processes find one another by themselves. The workdir has to lie in /mnt/runs,
# which all workers share. The same command goes on from the last checkpoint; a slice that was taken
# away is requested again. Needs gcloud, signed in. Delete the slice after the run:
#
#     gcloud compute tpus queued-resources delete NAME --zone ZONE --force
set -euo pipefail
if (($# < 6)); then
    echo "launch/tpu_pod.sh: the arguments must be NAME ZONE TYPE VERSION BUCKET ARGUMENTS, got $#" >&2
    exit 2
fi
name=$1 zone=$2 type=$3 version=$4 path=${5#gs://}
# A checkpoint is complete when its folder gets its name, which gcsfuse refuses unless told.
bucket=${path%%/*} folder=$([[ $path == */* ]] && echo "${path#*/}" || true)
shift 5
arguments=$(printf '%q ' "$@")
queued() { gcloud compute tpus queued-resources "$1" "$name" --zone "$zone" "${@:2}"; }
state() { queued describe --format='value(state.state)' 2>/dev/null || echo NONE; }
on_all() {
    gcloud compute tpus tpu-vm ssh "$name" --zone "$zone" --worker=all --command "$1"
}

case $(state) in
    ACTIVE | PROVISIONING | ACCEPTED | WAITING_FOR_RESOURCES | CREATING) ;;
    NONE) queued create --node-id "$name" --accelerator-type "$type" --runtime-version "$version" --spot ;;
    *)
        queued delete --force --quiet
        queued create --node-id "$name" --accelerator-type "$type" --runtime-version "$version" --spot
        ;;
esac
until [[ $(state) == ACTIVE ]]; do
    echo "gaxn: $name is $(state)"
    sleep 30
done
archive=$(mktemp --suffix=.tgz)
trap 'rm -f "$archive"' EXIT
git -C "$(dirname "$0")/.." archive --format=tgz -o "$archive" HEAD
gcloud compute tpus tpu-vm scp "$archive" "$name:gaxn.tgz" --zone "$zone" --worker=all
# The images have Python 3.10, and gaxn needs a newer one, which uv brings.
uv="\$HOME/.local/bin/uv"
on_all "command -v $uv >/dev/null || curl -LsSf https://astral.sh/uv/install.sh | sh"
on_all "mkdir -p gaxn && tar -xzf gaxn.tgz -C gaxn && $uv venv -q --allow-existing --python 3.12 venv && $uv pip install -q --python venv -e 'gaxn[tpu]'"
on_all "sudo mkdir -p /mnt/runs && sudo chown \$USER /mnt/runs && (mountpoint -q /mnt/runs || gcsfuse --implicit-dirs --rename-dir-limit 10000 ${folder:+--only-dir $folder} $bucket /mnt/runs)"
on_all "cd gaxn && GAXN_TPU_SLICE=1 ../venv/bin/python -m gaxn.main $arguments"
