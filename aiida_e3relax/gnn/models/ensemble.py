"""Ensembles: several trained networks whose mean is the prediction and whose spread is its uncertainty."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn

from aiida_e3relax.gnn.graph.batch import CrystalBatch, Geometry
from aiida_e3relax.gnn.graph.shells import Graph
from aiida_e3relax.gnn.models.base import RelaxationModel
from aiida_e3relax.gnn.models.distance_model import DistanceModel, ensemble_bonds, ensemble_prediction
from aiida_e3relax.gnn.models.losses import LossSettings, Target, layerwise_loss, structure_losses
from aiida_e3relax.gnn.models.uncertainty import BondLengths, distance_uncertainty


class Ensemble(RelaxationModel):
    """The mean of networks of one architecture and size, trained apart.

    All members see the same graph. Their fractional coordinates and cells are averaged: both are continuous in the
    members' displacements and symmetric strains, so every symmetry of the members is one of the ensemble. The
    uncertainty is the root mean square deviation of the members' edge lengths from their mean (DeepRelax, eq. 23),
    times a factor that `gnn.training.ensembles.calibrate` finds.

    Members that predict distances, the forms of DeepRelax, are averaged before the structure is solved; the scales that
    they state count in the uncertainty, too (eq. 24). The features of sites are those of the first member.
    """

    @dataclasses.dataclass(frozen=True)
    class Hyperparameters:
        """The architecture and hyper-parameters of the members, and what makes them an ensemble.

        Attributes
        ----------
        member, member_hyperparameters
            The architecture of every member, as `make_model` takes it.
        members
            Their number.
        uncertainty_scale
            Factor from the members' deviation to the uncertainty: members that learnt from the same data err alike, so
            their deviation is smaller than their errors.
        """

        member: str = 'e3relax-h2'
        member_hyperparameters: dict[str, Any] = dataclasses.field(default_factory=dict)
        members: int = 2
        uncertainty_scale: float = 1.0

    def __init__(self, hyperparameters: Hyperparameters):
        from aiida_e3relax.gnn.models.registry import MODELS, make_model  # the registry holds this class too

        super().__init__()
        p = hyperparameters
        if issubclass(MODELS[p.member], Ensemble):
            raise ValueError('the members of an ensemble cannot be ensembles')
        self.members = nn.ModuleList(make_model(p.member, p.member_hyperparameters) for _ in range(p.members))
        self.hyperparameters = p
        self.breaks = self._first.breaks
        self.capturable = self._first.capturable

    @property
    def _first(self) -> RelaxationModel:
        return cast(RelaxationModel, self.members[0])

    @property
    def cutoff(self) -> float:
        """Reach of the members' graph, in A."""
        return self._first.cutoff

    @property
    def max_neighbours(self) -> int:
        """Neighbours of the members' graph."""
        return self._first.max_neighbours

    @property
    def site_features(self) -> int:
        """Those of the first member."""
        return self._first.site_features

    @property
    def standard_orientation(self) -> bool:
        """Whether the prediction is right only for an input with a along x and b in the xy plane, positive in y."""
        return self._first.standard_orientation

    def graph(self, fractional: Tensor, cell: Tensor, n_atoms: Tensor) -> Graph:
        """Return the members' edges."""
        return self._first.graph(fractional, cell, n_atoms)

    @classmethod
    def supervised_layers(cls, hyperparameters: Hyperparameters) -> int:
        """Return the number of the members' layers."""
        from aiida_e3relax.gnn.models.registry import MODELS

        member = MODELS[hyperparameters.member]
        return max(1, member.supervised_layers(member.Hyperparameters(**hyperparameters.member_hyperparameters)))

    def forward(self, batch: CrystalBatch) -> list[Geometry]:
        """Return the mean of the members' structures after every layer; the last one has its uncertainty."""
        scale = self.hyperparameters.uncertainty_scale
        if isinstance(self._first, DistanceModel):
            geometry, uncertainty = ensemble_prediction(cast(list[DistanceModel], list(self.members)), batch)
            return [dataclasses.replace(geometry, uncertainty=scale * uncertainty.total)]
        return self._mean_layers([member(batch) for member in self.members], batch)

    def loss(self, batch: CrystalBatch, target: Target, settings: LossSettings) -> tuple[Tensor, Tensor]:
        """Return the mean of the members' losses ``(S,)``, and the errors of their mean ``(S, 2)`` in A.

        Each member learns by its own errors, as it did before they were put together: were the mean to learn, members
        could drift apart as long as they cancelled, and their deviation would say nothing of errors.
        """
        if type(self._first).loss is RelaxationModel.loss:
            of_members = [member(batch) for member in self.members]
            losses = [layerwise_loss(layers, target, batch, settings)[0] for layers in of_members]
            with torch.no_grad():
                mean = self._mean_layers(of_members, batch)[-1]
        else:
            losses = [cast(RelaxationModel, member).loss(batch, target, settings)[0] for member in self.members]
            mean = self._evaluated(batch)
        errors = structure_losses([mean], target, batch, settings.coordinates)[:, 0].detach()
        return torch.stack(losses).mean(dim=0), errors

    @torch.no_grad()
    def _evaluated(self, batch: CrystalBatch) -> Geometry:
        """Return the prediction; statistics of batches, which members may keep, stay as they are."""
        is_training = self.training
        self.eval()
        try:
            return self(batch)[-1]
        finally:
            self.train(is_training)

    @property
    def states_bonds(self) -> bool:
        """Always: the members differ."""
        return True

    @torch.no_grad()
    def with_bonds(self, batch: CrystalBatch, find_bonds: Callable[[], Graph]) -> tuple[list[Geometry], BondLengths]:
        """Return what `forward` returns, and the lengths of bonds with the members' spread, times the factor.

        Members that predict distances state those of their edges, and their scales count, too.
        """
        scale = self.hyperparameters.uncertainty_scale
        if isinstance(self._first, DistanceModel):
            geometry, uncertainty, stated = ensemble_bonds(cast(list[DistanceModel], list(self.members)), batch)
            geometries = [dataclasses.replace(geometry, uncertainty=scale * uncertainty.total)]
        else:
            of_members = [member(batch) for member in self.members]
            geometries, over_bonds = (
                self._mean_layers(of_members, batch),
                dataclasses.replace(batch, graph=find_bonds()),
            )
            lengths = _edge_lengths([layers[-1] for layers in of_members], over_bonds)
            stated = BondLengths.of(over_bonds.graph, lengths, torch.zeros_like(lengths))
        return geometries, dataclasses.replace(stated, uncertainty=scale * stated.uncertainty)

    def _mean_layers(self, of_members: list[list[Geometry]], batch: CrystalBatch) -> list[Geometry]:
        """Return the mean of the members' structures, layer by layer: they are of one architecture and size."""
        layers = [
            Geometry(
                torch.stack([g.fractional for g in geometries]).mean(dim=0),
                torch.stack([g.cell for g in geometries]).mean(dim=0),
            )
            for geometries in zip(*of_members, strict=True)
        ]
        lengths = _edge_lengths([layers[-1] for layers in of_members], batch)
        crystal = batch.structure_index[batch.graph.centre]
        uncertainty = distance_uncertainty(lengths, torch.zeros_like(lengths), crystal, len(batch.n_atoms))
        scale = self.hyperparameters.uncertainty_scale
        features = of_members[0][-1].features
        return [
            *layers[:-1],
            dataclasses.replace(layers[-1], uncertainty=scale * uncertainty.epistemic, features=features),
        ]


def _edge_lengths(geometries: list[Geometry], batch: CrystalBatch) -> Tensor:
    """Return the ``(T, E)`` lengths in A of the batch's edges in T geometries."""
    return torch.stack([batch.edge_vectors(g.fractional, g.cell).norm(dim=1) for g in geometries])
