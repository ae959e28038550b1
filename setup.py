"""Hand the AiiDA registration in setup.json, the one place that lists it, to the build back end; build the kernels."""

import json
import os
import platform
from pathlib import Path

from setuptools import Extension, setup

ENGINE = 'aiida_e3relax/gnn/engine'
FLAGS = ['-std=c++17', '-O3', '-g0', '-fopenmp-simd', '-fno-math-errno', '-fno-trapping-math', '-pthread']
X86 = platform.machine() in ('x86_64', 'AMD64')

# A plain shared library, loaded with ctypes; where it cannot be built, the engine does without.
kernels = Extension(
    'aiida_e3relax.gnn.engine._edge_kernels',
    sources=[f'{ENGINE}/edge_kernels.cpp'],
    depends=[f'{ENGINE}/edge_kernels.inc'],
    language='c++',
    extra_compile_args=[*FLAGS, '-mprefer-vector-width=512'] if X86 else FLAGS,
    extra_link_args=['-pthread', '-ldl'],
    optional=True,
)

# E3RELAX_NO_EXTENSION=1 leaves the kernels out: the wheel is then py3-none-any and fits every machine.
with_kernels = os.environ.get('E3RELAX_NO_EXTENSION', '0') in ('', '0')

setup(
    **json.loads(Path(__file__).with_name('setup.json').read_text(encoding='utf-8')),
    ext_modules=[kernels] if with_kernels else [],
)
