#!/bin/bash
# PBS: 4 nodes of 32 cores, 8 ranks of 4 threads on each. Fewer ranks with threads need less memory
# for the parameters; more ranks with one thread are a little faster.
#PBS -N dictionary
#PBS -l select=4:ncpus=32:mpiprocs=8:ompthreads=4
#PBS -l walltime=04:00:00

cd "$PBS_O_WORKDIR" || exit 1
export NUMBA_NUM_THREADS=$OMP_NUM_THREADS
mpiexec python -m mpi4py mpi/learn_dictionary.py rows.npy --n-components 200
