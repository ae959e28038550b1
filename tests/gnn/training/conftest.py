"""Training without its figures."""

import pytest


@pytest.fixture(autouse=True)
def few_figures(request, monkeypatch):
    """A figure takes longer than all the steps of a run here: one test draws it."""
    if request.node.name != 'test_curves_are_drawn':
        monkeypatch.setattr('aiida_e3relax.gnn.training.plot.plot_log', lambda log, path: None)
