#!/bin/bash
# Runs the units of one batch, in the folder that this was submitted from.
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=3
#SBATCH --mem-per-cpu=1334M
#SBATCH --time=00:01:30
#SBATCH --output=slurm-%j.out
#SBATCH --error=slurm-%j.err
#SBATCH --open-mode=append
#SBATCH --requeue

cd -- "$SLURM_SUBMIT_DIR" || exit 73
fractal_ended=$PWD/job-$SLURM_JOB_ID.exit
rm -f -- "$fractal_ended"

cd -- "$SLURM_SUBMIT_DIR" || exit 73
python3 /shared/fractal/.fractal/runner-0123.pyz "$PWD" &
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
