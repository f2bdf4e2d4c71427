#!/usr/bin/env bash
# A catalog on a Slurm allocation: one Ray node per Slurm node, the run on the first.
#
#   sbatch --nodes=8 --time=12:00:00 cluster/slurm.sh TILES OUT --bands g,r,i --resume
#
# In parts, each a job with a Ray and an output of its own, OUT/1 to OUT/40; later those alone that
# `raydeblend verify OUT/*` names, with the same number of parts:
#
#   RAYDEBLEND_PARTS=40 sbatch --array=1-40 --nodes=8 --time=12:00:00 cluster/slurm.sh \
#       TILES OUT --bands g,r,i --resume
#
# All arguments are those of `raydeblend catalog`, TILES and OUT first.  TILES and OUT are on a file system that every
# node sees, or on s3.  A job that ran out of time is submitted again as it was: --resume goes on.
# (`ray symmetric-run` would do the same, but ends with `ray stop`, which stops every Ray of a
# node, other jobs' too.)
#SBATCH --job-name=raydeblend
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=32
#SBATCH --mem-per-cpu=3G
#SBATCH --output=raydeblend-%j.log
set -euo pipefail

if [[ -n ${SLURM_ARRAY_TASK_ID:-} ]]; then
    parts=${RAYDEBLEND_PARTS:?of how many parts is this array? --array=2,5 does not say}
    set -- "$1" "${2%/}/$SLURM_ARRAY_TASK_ID" "${@:3}" --part "$SLURM_ARRAY_TASK_ID/$parts"
fi

# One thread for each of Ray's workers, which are as many as there are CPUs.
export OMP_NUM_THREADS=1
export RAY_AUTH_MODE=token
export RAY_TMPDIR="${RAY_TMPDIR:-/tmp/ray-$SLURM_JOB_ID}" # short: sockets have short names
# Another job of this user on one of the nodes has other ports.
port=$((20000 + SLURM_JOB_ID % 20000))

# The token: new for this job, readable by this user alone, on a file system all nodes see.
secrets=$(mktemp -d "${RAYDEBLEND_SHARED:-$HOME}/.raydeblend-$SLURM_JOB_ID-XXXXXX")
chmod 700 "$secrets"
export RAY_AUTH_TOKEN_PATH="$secrets/token"
(umask 077 && head -c 32 /dev/urandom | od -An -v -tx1 | tr -d ' \n' > "$RAY_AUTH_TOKEN_PATH")

mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
steps=()
# shellcheck disable=SC2329  # the trap calls it
finish() {
    # Each node's Ray by the step that started it.
    for step in "${steps[@]}"; do kill -TERM "$step" 2> /dev/null || true; done
    wait "${steps[@]}" 2> /dev/null || true
    srun --nodes="${#nodes[@]}" --overlap rm -rf "$RAY_TMPDIR" || true
    rm -rf "$secrets"
}
trap finish EXIT
trap 'exit 143' TERM INT

head=${nodes[0]}
# The first address of the head; of several networks name the one to use in RAYDEBLEND_HEAD_IP.
address=${RAYDEBLEND_HEAD_IP:-$(srun --nodes=1 --ntasks=1 --nodelist="$head" \
    hostname --all-ip-addresses | awk '{print $1}')}
cpus=${SLURM_CPUS_PER_TASK:-1}
gpus=${SLURM_GPUS_ON_NODE:-0}
# More options for the head, for example --object-store-memory=… or --include-dashboard=false.
read -ra more <<< "${RAYDEBLEND_HEAD_OPTIONS:-}"
# A node that vanishes without a word is noticed in a minute, in place of seven.
notice='{"grpc_client_keepalive_time_ms": 20000, "grpc_client_keepalive_timeout_ms": 30000}'
common=(--num-cpus="$cpus" --num-gpus="$gpus" --disable-usage-stats --block)

# Wait until so many nodes have joined, ten minutes at most; a Ray that ends before ends the job.
wait_for_nodes() {
    local code=0
    count_nodes "$1" &
    local counting=$!
    wait -n "${steps[@]}" "$counting" || code=$?
    if kill "$counting" 2> /dev/null; then
        echo "Ray ended on a node (exit code $code), see above" >&2
        exit 1
    fi
    return "$code"
}
count_nodes() {
    python - "$1" << 'PYTHON'
import sys
import time

import ray

wanted, deadline = int(sys.argv[1]), time.monotonic() + 600
while True:
    try:
        ray.init(logging_level="ERROR", log_to_driver=False)
        break
    except (ConnectionError, RuntimeError) as error:
        if time.monotonic() > deadline:
            sys.exit(f"the head of the cluster does not answer: {error}")
        time.sleep(2)
while (joined := sum(node["Alive"] for node in ray.nodes())) < wanted:
    if time.monotonic() > deadline:
        sys.exit(f"only {joined} of {wanted} nodes joined")
    time.sleep(1)
print(f"{joined} nodes joined, {ray.cluster_resources().get('CPU', 0):.0f} CPUs", flush=True)
PYTHON
}

echo "Ray on ${#nodes[@]} nodes with $cpus CPUs and $gpus GPUs each; head $head ($address:$port)"
export RAY_ADDRESS="$address:$port"
srun --nodes=1 --ntasks=1 --nodelist="$head" --overlap \
    env -u RAY_ADDRESS ray start --head --node-ip-address="$address" --port="$port" \
    --dashboard-host=127.0.0.1 --temp-dir="$RAY_TMPDIR" --system-config="$notice" "${common[@]}" "${more[@]}" &
steps+=($!)
# A node that finds no head gives up.
wait_for_nodes 1
for node in "${nodes[@]:1}"; do
    srun --nodes=1 --ntasks=1 --nodelist="$node" --overlap \
        env -u RAY_ADDRESS ray start --address="$address:$port" "${common[@]}" &
    steps+=($!)
done
# The run takes the cluster as it finds it.
wait_for_nodes "${#nodes[@]}"

code=0
raydeblend catalog "$@" || code=$?
exit "$code"
