"""The command `aiida-e3relax`.

Help, the version and mistakes on the command line are answered without waiting for AiiDA: the modules that declare
commands import nothing heavy, and what a command needs is imported in its function.
"""

import click

from aiida_e3relax.cli.lazy_group import LazyGroup


@click.group(
    cls=LazyGroup,
    places={
        'campaign': 'aiida_e3relax.cli.campaign.commands:campaign',
        'data': 'aiida_e3relax.cli.data:data',
        'model': 'aiida_e3relax.cli.model:model',
        'pre-relaxer': 'aiida_e3relax.cli.pre_relaxer:pre_relaxer',
        'query': 'aiida_e3relax.cli.query:query',
        'relax': 'aiida_e3relax.cli.relax:relax',
        'setup': 'aiida_e3relax.cli.setup:setup',
        'show': 'aiida_e3relax.cli.show:show',
        'validate': 'aiida_e3relax.cli.validate:validate',
    },
)
@click.version_option(package_name='aiida-e3relax')
def main() -> None:
    """Start VASP relaxations from crystals that a network predicts, and measure what that saves."""
