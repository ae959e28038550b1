"""The work chain that tunes a model on relaxations, and takes the tuned one where it is better."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from aiida import orm
from aiida.common import AttributeDict
from aiida.engine import ExitCode, ToContext, WorkChain
from aiida.engine.processes.ports import PortNamespace
from aiida.engine.processes.workchains.workchain import WorkChainSpec

from aiida_e3relax.calculations.learning import (
    TEST,
    SplitSettings,
    compare_models,
    divide_pairs,
    find_lack_of_units,
    find_test_moves,
    held_test_sites,
    join_predictions,
    take_test_crystals,
)
from aiida_e3relax.calculations.predict import E3RelaxCalculation, find_model_fault
from aiida_e3relax.calculations.train_parameters import TrainParameters
from aiida_e3relax.crystals.freedom.pairs import freedom_of
from aiida_e3relax.data.model import E3RelaxModelData
from aiida_e3relax.data.pairs import E3RelaxPairsData
from aiida_e3relax.workflows.network.base import E3RelaxBaseWorkChain
from aiida_e3relax.workflows.training.base import E3RelaxTrainBaseWorkChain
from aiida_e3relax.workflows.vasp.messages import describe_failure

MODELS = ('tuned', 'base')
ALL_FAILED = E3RelaxCalculation.exit_codes.ERROR_ALL_STRUCTURES_FAILED.status


class E3RelaxFinetuneWorkChain(WorkChain):
    """Tune a model on pairs, judge it on pairs that were left out, and give back the better of the two.

    The pairs are divided by chemical system, or as `split` says. The tuned model and the one that it came from predict
    the crystals of the split `test`, and `evaluation` compares them, beside the unrelaxed crystals as they are and
    scaled to the predicted volume. What did not move in a relaxation does not in its prediction. `model` is the tuned
    one only if its error has fallen beyond chance. Some pairs of `replay`, which the model has learnt from before, are
    learnt from beside the new ones, against forgetting.
    """

    @classmethod
    def define(cls, spec: WorkChainSpec) -> None:  # type: ignore[override]
        """Define the inputs, outline, outputs and exit codes."""
        super().define(spec)
        spec.input('pairs', valid_type=E3RelaxPairsData, help='What it learns from, and is judged by.')
        spec.input('model', valid_type=E3RelaxModelData, help='The model to tune.')
        spec.input_namespace(
            'replay',
            dynamic=True,
            required=False,
            valid_type=E3RelaxPairsData,
            help='Pairs, such as the model has learnt from before, of which some are learnt from beside the new ones.',
        )
        spec.input(
            'split',
            valid_type=orm.Dict,
            default=orm.Dict,
            serializer=orm.to_aiida_type,
            validator=validate_split,
            help='How `pairs` are divided: `by` (chemical-system, random, prototype, as-given), the shares `val` (0.1) '
            'and `test` (0.2), `replay` (1.0), the number of pairs of `replay` for each new one, and `seed`.',
        )
        spec.expose_inputs(
            E3RelaxTrainBaseWorkChain,
            namespace='training',
            exclude=['train.pairs', 'train.model'],
            namespace_options={'help': 'How it trains.'},
        )
        spec.expose_inputs(
            E3RelaxBaseWorkChain,
            namespace='prediction',
            exclude=['predict.model', 'predict.structures', 'predict.batch', 'campaign'],
            namespace_options={
                'help': 'How both models predict the crystals that were left out: with what VASP moved of each, unless '
                '`freedom` in `predict.parameters` says it for all.'
            },
        )
        spec.input(
            'campaign',
            valid_type=orm.Dict,
            required=False,
            help='The settings of the campaign whose model learns; recorded, so that it is found from there.',
        )
        spec.inputs.validator = validate_inputs  # type: ignore[assignment]
        spec.outline(cls.divide, cls.train, cls.inspect_training, cls.predict, cls.judge)  # type: ignore[arg-type]

        spec.output('model', valid_type=E3RelaxModelData, help='The better of the two models.')
        spec.output('tuned', valid_type=E3RelaxModelData, required=False, help='The tuned model.')
        spec.output('curves', valid_type=orm.ArrayData, required=False, help='The log of the training.')
        spec.output('evaluation', valid_type=orm.Dict, required=False, help='The errors of both; see `compare_models`.')
        spec.output('divided', valid_type=E3RelaxPairsData, required=False, help='The pairs with their splits.')
        spec.exit_code(
            410,
            'ERROR_SPLIT_IS_EMPTY',
            message='The pairs cannot be divided ({detail}): give more of them, larger shares `val` and `test` in '
            '`split`, another `seed`, or `by: random`, which parts chemical systems.',
        )
        spec.exit_code(
            411,
            'ERROR_TRAINING_FAILED',
            message='The training {detail}; what it left is in the graph. The model stays the one to use.',
        )
        spec.exit_code(
            412,
            'ERROR_PREDICTION_FAILED',
            message='The prediction of the crystals that were left out did not succeed ({detail}); `tuned` is not '
            'judged.',
        )

    def divide(self) -> ExitCode | None:
        """Divide the pairs, and tell how many are replayed and where those left out are too few for a judgement."""
        divided = divide_pairs(self.inputs.pairs, self.inputs.split, **self.inputs.get('replay', {}))
        self.out('divided', divided)
        self.ctx.divided = divided
        counts = {kind: divided.splits.get(kind, 0) for kind in ('train', 'val', TEST)}
        if empty := [kind for kind, count in counts.items() if not count]:
            detail = f'no pair of {" or ".join(empty)} among {len(divided)}'
            return self.exit_codes.ERROR_SPLIT_IS_EMPTY.format(detail=detail)
        if divided.replayed:
            self.report(divided.replayed['told'])
        if lack := find_lack_of_units(divided, self.inputs.split):
            self.report(lack)
        return None

    def train(self) -> ToContext:
        """Tune the model."""
        inputs = AttributeDict(self.exposed_inputs(E3RelaxTrainBaseWorkChain, 'training'))
        inputs.train.pairs = {'divided': self.ctx.divided}
        inputs.train.model = self.inputs.model
        inputs.metadata.call_link_label = 'train'
        return ToContext(training=self.submit(E3RelaxTrainBaseWorkChain, **inputs))

    def inspect_training(self) -> ExitCode | None:
        """Take the tuned model over."""
        training = self.ctx.training
        if 'curves' in training.outputs:
            self.out('curves', training.outputs.curves)
        if not training.is_finished_ok:
            self.out('model', self.inputs.model)
            return self.exit_codes.ERROR_TRAINING_FAILED.format(detail=describe_failure(training))
        self.out('tuned', training.outputs.model)
        return None

    def predict(self) -> ToContext:
        """Let both models predict what was left out: what moves alike in one run, but all where that is given."""
        divided, given = self.ctx.divided, self.inputs.prediction.predict.get('parameters') or orm.Dict()
        is_told = given.get('freedom') is not None
        self.ctx.kinds = [None] if is_told else np.unique(find_test_moves(divided)).tolist()
        running = {}
        for moves in self.ctx.kinds:
            batch = take_test_crystals(divided, None if moves is None else orm.Str(moves))
            parameters = holding_parameters(given, moves, held_test_sites(divided, moves))
            for name, model in zip(MODELS, (self.ctx.training.outputs.model, self.inputs.model), strict=True):
                inputs = AttributeDict(self.exposed_inputs(E3RelaxBaseWorkChain, 'prediction'))
                inputs.predict.model, inputs.predict.batch, inputs.predict.parameters = model, batch, parameters
                inputs.metadata.call_link_label = f'predict_{_key(name, moves)}'
                running[f'predicted_{_key(name, moves)}'] = self.submit(E3RelaxBaseWorkChain, **inputs)
        return ToContext(**running)

    def judge(self) -> ExitCode | None:
        """Compare the two, and give back the better one."""
        batches, failed = {}, {}
        for name in MODELS:
            runs = {_key(name, moves): self.ctx[f'predicted_{_key(name, moves)}'] for moves in self.ctx.kinds}
            found = {key: run.outputs.batch for key, run in runs.items() if 'batch' in run.outputs}
            lacking = [run for key, run in runs.items() if key not in found]
            is_needed = name == 'tuned' and not found  # the other may predict none, as of elements that it has not seen
            if faults := [describe_failure(run) for run in lacking if is_needed or run.exit_status != ALL_FAILED]:
                failed[name] = faults[0]
            elif found:
                batches[name] = join_predictions(**found)
        if failed:
            self.out('model', self.inputs.model)
            told = '; '.join(f'of the {name} model it {message}' for name, message in failed.items())
            return self.exit_codes.ERROR_PREDICTION_FAILED.format(detail=told)
        evaluation = compare_models(self.ctx.divided, split=self.inputs.split, **batches)
        self.out('evaluation', evaluation)
        better = evaluation['is_better']
        self.out('model', self.ctx.training.outputs.model if better else self.inputs.model)
        change, interval = (evaluation['difference'][name] for name in ('mean_A', 'interval_A'))
        told = f'95 % interval {interval[0]:+.4f} to {interval[1]:+.4f}' if interval else 'too few for an interval'
        if evaluation['units'] < evaluation['crystals']:
            told += f', of {evaluation["units"]} groups that stayed together'
        self.report(
            f'the error of coordinates and lattice changed by {change:+.4f} A ({told}) on {evaluation["crystals"]} '
            f'crystals that were left out: the {"tuned model is" if better else "model stays"} the one to use'
        )
        return None


def _key(name: str, moves: str | None) -> str:
    """Return by what the prediction by a model, of MODELS, of crystals of which this moves is called."""
    return f'{name}_{moves.replace("-", "_")}' if moves else name


def holding_parameters(parameters: orm.Dict, moves: str | None, held: Mapping[str, Any]) -> orm.Dict:
    """Return the parameters of a prediction in which this moves, but not the sites `held`, as it was with VASP.

    With None for `moves`, or nothing, the freedom is that of `parameters`.
    """
    given = parameters.get_dict()
    if moves:
        freedom = freedom_of(moves)
        given = {name: value for name, value in given.items() if name != 'vacuum'}  # that is of the freedom, too
        given['freedom'] = {'moves': freedom.moves, 'vacuum': freedom.vacuum}
    return orm.Dict({**given, 'fixed': held} if held else given)


def validate_inputs(inputs: Mapping[str, Any], namespace: PortNamespace) -> str | None:
    """Return what the training or the predictions would refuse when their turn comes, or None.

    Ports that a work chain around this one has left out are its own.
    """
    if not {'model', 'training', 'prediction'} <= set(namespace):
        return None
    train, predict = inputs['training']['train'], inputs['prediction']['predict']
    try:
        TrainParameters.from_mapping(train['parameters'].get_dict() if 'parameters' in train else {}, is_tuning=True)
    except ValueError as error:
        return f'`training.train.parameters`: {error}'
    if fault := find_model_fault({**predict, 'model': inputs['model']}):
        return f'`prediction.predict`: {fault}'
    return None


def validate_split(split: orm.Dict, _: Any) -> str | None:
    """Return what is wrong with `split`, or None."""
    values: Mapping[str, Any] = split.get_dict()
    try:
        SplitSettings.from_mapping(values)
    except ValueError as error:
        return f'`split`: {error}'
    return None
