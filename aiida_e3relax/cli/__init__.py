"""The command `aiida-e3relax`."""

import click

from aiida_e3relax.cli.campaign.commands import campaign
from aiida_e3relax.cli.query import query
from aiida_e3relax.cli.relax import relax
from aiida_e3relax.cli.setup import setup
from aiida_e3relax.cli.show import show


@click.group()
@click.version_option(package_name='aiida-e3relax')
def main() -> None:
    """Start VASP relaxations from crystals that a network predicts, and measure what that saves."""


main.add_command(setup)
main.add_command(relax)
main.add_command(show)
main.add_command(campaign)
main.add_command(query)
