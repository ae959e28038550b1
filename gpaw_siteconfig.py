"""Build settings for GPAW with a C++ compiler and nothing else: no MPI, FFTW, ScaLAPACK, BLAS or libxc headers.

``GPAW_CONFIG=$PWD/gpaw_siteconfig.py pip install gpaw==26.7.0`` (the path must be absolute).
"""

mpi = False
compiler = 'g++'
fftw = False
scalapack = False
noblas = True
nolibxc = True
libraries: list[str] = []
