"""Recognition of errors that mean that memory ran out. Needs no torch."""

from __future__ import annotations

import errno
import re

WORDS = re.compile(
    r'out[ _-]?of[ _-]?memory'  # CUDA, HIP, NVRTC, Triton's driver; `OutOfMemoryError`, `CUDA_ERROR_OUT_OF_MEMORY`
    r'|(?:can.?t|cannot|unable to|failed to|could not) allocate'  # PyTorch on the CPU, numpy, the kernel
    r'|not enough memory|insufficient memory'
    r'|MemoryError'  # Python, numpy's `_ArrayMemoryError`
    r'|\bbad_alloc\b'  # C++
    r'|cudaErrorMemoryAllocation'
    r'|\bCU[A-Z]+_STATUS_(?:ALLOC_FAILED|INSUFFICIENT_RESOURCES)'  # cuBLAS, cuDNN, cuSOLVER, cuSPARSE
    r'|CUBLAS_STATUS_NOT_INITIALIZED',  # what cuBLAS says where its workspace does not fit
    re.IGNORECASE,
)
"""What messages say. A kernel that wants more shared memory than its device has is none of them: a smaller batch does
not help there."""


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether `error`, or what it was raised from, is memory that ran out, of a device or of the host."""
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        names = {parent.__name__ for parent in type(cause).__mro__}
        if names & {'MemoryError', 'OutOfMemoryError'} or getattr(cause, 'errno', None) == errno.ENOMEM:
            return True
        if isinstance(cause, (RuntimeError, OSError)) and WORDS.search(str(cause)):
            return True
        cause = cause.__cause__
    return False
