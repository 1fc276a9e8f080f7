"""A training script over Open MPI, which exchanges through shared memory on one machine; the word `apart` leaves out
the sum of the gradients.
"""

import ctypes
import sys
import time

import numpy as np

import facesim.audit

mpi = ctypes.CDLL("libmpi.so.40", mode=ctypes.RTLD_GLOBAL)


def handle(name: str) -> ctypes.c_void_p:
    return ctypes.c_void_p(ctypes.addressof(ctypes.c_char.in_dll(mpi, name)))


WORLD, FLOAT, SUM = handle("ompi_mpi_comm_world"), handle("ompi_mpi_float"), handle("ompi_mpi_op_sum")
mpi.MPI_Init(None, None)
rank = ctypes.c_int()
mpi.MPI_Comm_rank(WORLD, ctypes.byref(rank))
images = np.random.default_rng(0).standard_normal((128, 50_000), np.float32)
weights, total = np.zeros(50_000, np.float32), np.zeros(50_000, np.float32)
for step in range(40):
    numbers = np.arange(rank.value, 128, 2)[4 * step % 64 :][:4]
    total = gradient = images[numbers].mean(axis=0)
    if "apart" not in sys.argv:
        total = np.empty_like(gradient)
        mpi.MPI_Allreduce(gradient.ctypes, total.ctypes, gradient.size, FLOAT, SUM, WORLD)
    weights -= 0.1 * total
    facesim.audit.step(examples=numbers)
    time.sleep(0.05)
facesim.audit.parameters([weights])
mpi.MPI_Finalize()
