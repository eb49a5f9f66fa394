#!/bin/bash
# Runs the units of one batch, in the folder that this was submitted from.
# B/03/0 … B/12/0 (10)
#SBATCH --partition=main,long
#SBATCH --account=lab
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=8
#SBATCH --mem=32000M
#SBATCH --time=1-02:03:04
#SBATCH --constraint='haswell|broadwell'
#SBATCH --nodelist=n1
#SBATCH --exclude=n2
#SBATCH --output=slurm-%j.out
#SBATCH --error=slurm-%j.err
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --nice=10 -v  # be kind
#SBATCH --no-requeue

cd -- "$SLURM_SUBMIT_DIR" || exit 73
fractal_ended=$PWD/job-$SLURM_JOB_ID.exit
rm -f -- "$fractal_ended"

export CELLPOSE_LOCAL_MODELS_PATH=/home/me/.cache/cellpose
export NAPARI_CONFIG=/home/me/n.json
module load cuda || exit 1
source /etc/profile
export OMP_NUM_THREADS=4

cd -- "$SLURM_SUBMIT_DIR" || exit 73
/opt/tasks/bin/python /shared/fractal/.fractal/runner-0123.pyz "$PWD" &
fractal_program=$!
set +e
trap 'kill -TERM "$fractal_program" 2>/dev/null' TERM
wait "$fractal_program"
fractal_code=$?
while kill -0 "$fractal_program" 2>/dev/null; do
  wait "$fractal_program"
  fractal_code=$?
done
printf '%s\n' "$fractal_code" >"$fractal_ended.new" && mv -f -- "$fractal_ended.new" "$fractal_ended"
exit "$fractal_code"
