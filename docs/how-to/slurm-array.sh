#!/bin/bash
# One participant per task of a Slurm array. Adapt the resources, then:
#
#   tail -n +2 BIDS/participants.tsv | cut -f 1 > participants.txt
#   sbatch --array=1-$(wc -l < participants.txt)%20 slurm-array.sh BIDS OUT participants.txt [OPTION ...]
#
# Submit the same again to continue: finished participants are skipped.
# One GPU per task: sbatch --gres=gpu:1 ... With a container, name its whole command:
#   export BIDS_UNIRES="apptainer run --nv --containall --bind /scratch bids_unires.sif"
#SBATCH --job-name=bids_unires
#SBATCH --cpus-per-task=4
#SBATCH --mem=8G
#SBATCH --time=01:00:00
#SBATCH --output=%x-%A_%a.log
set -euo pipefail

[ $# -ge 3 ] || { echo "usage: sbatch --array=1-N slurm-array.sh BIDS OUT LIST [OPTION ...]" >&2; exit 64; }
bids=$1 out=$2 list=$3
shift 3

label=$(sed -n "${SLURM_ARRAY_TASK_ID:?submit with --array=1-N}p" "$list")
label=${label%$'\r'} # participants.tsv may come from Windows.
[ -n "$label" ] || { echo "$list has no line $SLURM_ARRAY_TASK_ID" >&2; exit 64; }

# exec: the signals of scancel and of the time limit reach the program, which ends cleanly.
exec ${BIDS_UNIRES:-bids_unires} "$bids" "$out" participant --participant-label "$label" \
  --omp-nthreads "${SLURM_CPUS_PER_TASK:-1}" "$@"
