"""Memory that runs out, in the words of all that allocates."""

import numpy as np
import pytest
import torch

from aiida_e3relax.common.out_of_memory import is_out_of_memory
from aiida_e3relax.parsers.prediction_files import find_out_of_memory

MESSAGES = [
    'CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 79.11 GiB',
    'CUDA error: out of memory',
    'HIP out of memory. Tried to allocate 2.00 GiB',
    'CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`',
    'CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`',
    'cuDNN error: CUDNN_STATUS_ALLOC_FAILED',
    'cusolver error: CUSOLVER_STATUS_ALLOC_FAILED, when calling `cusolverDnCreate(handle)`',
    'CUDA driver error: CUDA_ERROR_OUT_OF_MEMORY',
    'cudaErrorMemoryAllocation: memory allocation',
    'Triton Error [CUDA]: out of memory',
    'nvrtc: error: NVRTC_ERROR_OUT_OF_MEMORY',
    "[enforce fail at alloc_cpu.cpp:125] . DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes.",
    'DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes.',
    'unable to mmap 64 bytes from file <x>: Cannot allocate memory (12)',
    'std::bad_alloc',
]
OTHERS = [
    'out of resource: shared memory, Required: 262144, Hardware limit: 232448. Reducing block sizes may help.',
    'CUDA error: an illegal memory access was encountered',
    'CUDA error: device-side assert triggered',
    'Expected all tensors to be on the same device',
    'index 5 is out of bounds for dimension 0 with size 5',
]


@pytest.mark.parametrize('message', MESSAGES)
def test_every_spelling(message):
    assert is_out_of_memory(RuntimeError(f'first line\n{message}'))
    assert find_out_of_memory(f'first line\n{message}\n') == message


@pytest.mark.parametrize('message', OTHERS)
def test_what_a_smaller_batch_does_not_mend(message):
    assert not is_out_of_memory(RuntimeError(message))
    assert find_out_of_memory(message) is None


def test_errors_as_they_come():
    with pytest.raises(MemoryError) as of_numpy:
        np.ones(2**50)
    with pytest.raises(RuntimeError) as of_torch:
        torch.ones(2**50)
    assert is_out_of_memory(of_numpy.value)
    assert is_out_of_memory(of_torch.value)
    assert is_out_of_memory(torch.OutOfMemoryError('no words'))
    assert is_out_of_memory(OSError(12, 'whatever the language'))
    outer = ValueError('could not')
    outer.__cause__ = MemoryError()
    assert is_out_of_memory(outer)


def test_a_message_about_memory_is_no_lack_of_it():
    assert not is_out_of_memory(ValueError('the label is "out of memory"'))
    assert find_out_of_memory('cannot read killed.cif') is None
