"""Start the processes of jobs and sweeps, on this machine or by SLURM."""
