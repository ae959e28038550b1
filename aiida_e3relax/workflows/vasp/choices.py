"""The inputs of chains that do not depend on the structure: chosen once, for one chain or a whole campaign."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from aiida import orm
from aiida.engine import ProcessBuilder

from aiida_e3relax.calculations.predict_parameters import find_default
from aiida_e3relax.common.mappings import merge
from aiida_e3relax.crystals.freedom.freedom import Freedom
from aiida_e3relax.data.model import E3RelaxModelData
from aiida_e3relax.data.potential import E3RelaxPotentialData
from aiida_e3relax.workflows.network.base import E3RelaxBaseWorkChain
from aiida_e3relax.workflows.protocols.protocol import fill_builder
from aiida_e3relax.workflows.vasp.builder import pre_relaxation_inputs, with_options
from aiida_e3relax.workflows.vasp.chain import E3RelaxVaspWorkChain
from aiida_e3relax.workflows.vasp.inputs.freedom import predict_all

NODES = ('vasp_code', 'network_code', 'model', 'potential_weights')


@dataclasses.dataclass(frozen=True)
class ChainChoices:
    """Everything about a chain that does not depend on the structure.

    Attributes
    ----------
    vasp_code, network_code
        The codes; without `network_code`, which runs the pre-relaxer, VASP relaxes raw structures alone.
    potential_family
        The label of a family of aiida-vasp.
    freedom
        What may move, as the chain takes it; the sites that the file of a structure fixes are fixed as well.
    model
        The checkpoint; None where the pre-relaxer has no network.
    protocol
        The name of a protocol; None is the default one.
    overrides
        Inputs over those of the protocol, nested as the ports.
    options, network_options
        Options of the VASP jobs and of the network's, such as `resources`.
    pre_relaxer
        What makes VASP's start, as `PreRelaxer` reads it; None for that of the parameters in `overrides`, else the
        network or, for a single chain without `model`, the default of `network_code`. See `settle`.
    potential_weights
        The weights of its potential, where the package of that brings none; None for those in `overrides`.
    """

    vasp_code: orm.AbstractCode
    network_code: orm.AbstractCode | None
    potential_family: str
    freedom: str | Mapping[str, Any]
    model: E3RelaxModelData | None = None
    protocol: str | None = None
    overrides: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    network_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    pre_relaxer: str | None = None
    potential_weights: E3RelaxPotentialData | None = None

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> ChainChoices:
        """Return the choices in what `record` returned; other keys are left alone.

        Raises NotExistent when a code or the model has been deleted since.
        """
        names = [field.name for field in dataclasses.fields(cls)]
        values = {name: record[name] for name in names if name in record}  # older records lack the last ones
        nodes: dict[str, Any] = {name: orm.load_node(uuid=values[name]) for name in NODES if values.get(name)}
        return cls(**(values | nodes))

    def record(self) -> dict[str, Any]:
        """Return the choices as plain values, nodes by their UUID."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return values | {name: node and node.uuid for name, node in values.items() if name in NODES}

    def settle(self) -> ChainChoices:
        """Return the choices that go on meaning the same when the default pre-relaxer of `network_code` changes."""
        if self.network_code is None or self.pre_relaxer is not None or self.model is not None:
            return self
        inputs = E3RelaxVaspWorkChain.get_protocol_inputs(self.protocol, self.overrides)
        default = find_default(self.network_code, inputs['network']['predict'])
        return self if default is None else dataclasses.replace(self, pre_relaxer=str(default))

    def chain_builder(
        self, structure: orm.StructureData, fixed: Mapping[str, Any] | None = None, **inputs: Any
    ) -> ProcessBuilder:
        """Return the chain of one structure.

        Parameters
        ----------
        structure
            The raw crystal.
        fixed
            The sites that its file fixes, as `fixed` in `freedom`.
        **inputs
            Further arguments of `E3RelaxVaspWorkChain.get_builder_from_protocol`. With `campaign` the network has had
            its turn before: the chain asks none, and takes `prediction` if there is one.

        Raises ValueError for what the chain refuses.
        """
        asks_network = inputs.get('campaign') is None
        return E3RelaxVaspWorkChain.get_builder_from_protocol(
            structure,
            self.vasp_code,
            self.network_code if asks_network else None,
            potential_family=self.potential_family,
            model=self.model if asks_network else None,
            pre_relaxer=self.pre_relaxer if asks_network else None,
            potential_weights=self.potential_weights if asks_network else None,
            protocol=self.protocol,
            overrides=self.overrides,
            options=self.options,
            network_options=self.network_options,
            freedom=hold_sites(self.freedom, fixed) if fixed else self.freedom,
            **inputs,
        )

    def network_builder(
        self, batch: orm.Data, campaign: orm.Dict, fixed: Mapping[str, Mapping[str, Any]] | None = None
    ) -> ProcessBuilder:
        """Return the run of the pre-relaxer for a batch of a campaign.

        `fixed` are the sites that files fix, as `fixed` in `freedom`, by the label of the structure.
        """
        of_chain = E3RelaxVaspWorkChain.get_protocol_inputs(self.protocol, self.overrides)
        inputs = pre_relaxation_inputs(of_chain['network'], self.pre_relaxer, self.model, self.potential_weights)
        predict = {
            'code': self.network_code,
            'batch': batch,
            'parameters': predict_all(inputs['predict']['parameters'], self.freedom, fixed),
        }
        builder = E3RelaxBaseWorkChain.get_builder()
        own = {'predict': predict, 'campaign': campaign, 'clean_workdir': orm.to_aiida_type(of_chain['clean_workdir'])}
        fill_builder(builder, with_options(merge(inputs, own), self.network_code, self.network_options))
        return builder


def hold_sites(freedom: str | Mapping[str, Any], fixed: Mapping[str, Any]) -> dict[str, Any]:
    """Return a freedom in which the sites `fixed` are fixed, too; raises ValueError for what is no freedom."""
    own = Freedom.from_value(freedom).fixed
    both = {letters: sorted({*own.get(letters, ()), *fixed.get(letters, ())}) for letters in {**own, **fixed}}
    return {**({'moves': freedom} if isinstance(freedom, str) else freedom), 'fixed': both}
