"""E3Relax-H2, E3Relax and DeepRelax as their authors publish them: to use weights of theirs, and as a baseline.

They break symmetries that the models beside this folder keep; see each model.
"""

from aiida_e3relax.gnn.models.published.deeprelax import DeepRelaxPublished
from aiida_e3relax.gnn.models.published.e3relax import E3RelaxPublished
from aiida_e3relax.gnn.models.published.e3relax_h2 import E3RelaxH2Published

__all__ = ['DeepRelaxPublished', 'E3RelaxH2Published', 'E3RelaxPublished']
