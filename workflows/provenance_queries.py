"""A walk through the provenance graph of a campaign: what it holds, and how to ask for it.

Run it with `verdi run workflows/provenance_queries.py NAME` once the campaign NAME has finished some structures, in the
profile that it is in. Each question is a line of Python that works the same in `verdi shell`, and a command of
`aiida-e3relax query`; see docs/campaign.md.
"""

from __future__ import annotations

import click
from aiida import orm

from aiida_e3relax.campaign.results.headline import format_headline
from aiida_e3relax.campaign.results.queries import find_chains, find_predictions, find_reference_legs, trace_origin
from aiida_e3relax.campaign.results.statistics import summarise
from aiida_e3relax.campaign.results.table import campaign_frame
from aiida_e3relax.cli.profile import profile_option, use_profile

COLUMNS = ['formula', 'state', 'verdict', 'raw_ionic_steps', 'predicted_ionic_steps']
IMPORTS = (
    'from aiida import orm',
    'from aiida_e3relax.campaign.results.table import campaign_frame',
    'from aiida_e3relax.campaign.results.headline import format_headline',
    'from aiida_e3relax.campaign.results.queries import '
    'find_chains, find_predictions, find_reference_legs, trace_origin',
    'from aiida_e3relax.campaign.results.statistics import summarise',
)


@click.command()
@click.argument('name')
@profile_option
def main(name: str, profile: str | None) -> None:
    """Ask the graph about the campaign NAME, from its headline down to a single checkpoint."""
    loaded = use_profile(profile)
    try:
        frame = campaign_frame(name)
    except ValueError as error:
        raise click.ClickException(f'{error} (profile `{loaded}`; --profile takes another one)') from error

    say('What are the questions asked with?', *IMPORTS)
    say('What did the campaign find?', f'format_headline(summarise(campaign_frame({name!r})))')
    click.echo(format_headline(summarise(frame)))

    say(
        'That sentence is the sum of a table with a row for each structure. How does it begin?',
        f'campaign_frame({name!r})[{COLUMNS}].head(8)',
    )
    click.echo(frame[COLUMNS].head(8).to_string())

    relaxed = frame[frame['predicted_finished'].eq(True)]
    if relaxed.empty:
        click.echo('\nNo structure has been relaxed from a prediction so far; the other questions are about one.')
        return
    element = relaxed['elements'].iloc[0][0]
    say(f'Which chains, of this and of other campaigns, have {element}?', f'find_chains(elements=[{element!r}])')
    having = find_chains(elements=[element])
    some = ', '.join(f'{row.formula} <{row.chain_pk}>' for row in having[:8].itertuples())
    click.echo(f'{len(having)}, among them {some}')

    chain = orm.load_node(relaxed['chain_uuid'].iloc[0])
    energy = chain.outputs.predicted.misc
    say(f'Where does the final energy of {relaxed.index[0]} come from?', f'trace_origin(orm.load_node({energy.pk}))')
    origin = trace_origin(energy)
    for node in origin.path:
        click.echo(f'  {getattr(node, "process_label", None) or type(node).__name__}<{node.pk}>')

    if origin.model is not None:
        content_hash = origin.model.content_hash
        say(f'What else did the checkpoint {origin.model.name} predict?', f'find_predictions({content_hash!r})')
        predictions = find_predictions(content_hash)
        click.echo(f'{len(predictions)} predictions in {predictions["job_pk"].nunique()} jobs')

    raw = chain.inputs.structure
    say('Where has VASP relaxed that raw structure already?', f'find_reference_legs(orm.load_node({raw.pk}))')
    references = find_reference_legs(raw)
    if references.empty:
        click.echo('Nowhere')
        return
    click.echo(references[['chain_pk', 'ionic_steps', 'energy_final_eV_per_atom']].head(8).to_string())
    click.echo(f'Another chain need not do it again: `--reference-leg {references["chain_uuid"].iloc[0]}`')


def say(question: str, *lines: str) -> None:
    """Print a question, and the lines of Python that answer it."""
    click.echo(click.style(f'\n{question}', bold=True))
    for line in lines:
        click.echo(f'>>> {line}')


if __name__ == '__main__':
    main()
