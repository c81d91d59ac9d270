#!/bin/bash
# No scheduler: a list of hosts that share a file system and reach each other by ssh.
# MPICH reads -f with host:ranks, Open MPI --hostfile with "host slots=ranks".
printf 'node1:16\nnode2:16\n' > hosts

export OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1
mpiexec -f hosts -n 32 -bind-to core \
  python -m mpi4py mpi/learn_dictionary.py rows.npy --n-components 200
