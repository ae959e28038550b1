"""`aiida-e3relax pre-relaxer`: what a code runs where nothing else names a pre-relaxer."""

from __future__ import annotations

import click

from aiida_e3relax.cli.profile import profile_option, use_profile


@click.command('pre-relaxer')
@click.argument('code', required=False)
@click.argument('who', required=False)
@profile_option
def pre_relaxer(code: str | None, who: str | None, profile: str | None) -> None:
    """Show or set what makes VASP's start by default, for each code that runs `e3relax`.

    CODE is the label of a code, all of them by default. WHO is network, the name of an interatomic potential that is
    installed where the code runs, such as sevennet-mf-0, or both, as in network+sevennet-mf-0.

    The default counts for new chains and campaigns without --pre-relaxer, --model, and a pre-relaxer in the overrides.
    `aiida-e3relax setup` sets that of the code that it makes.
    """
    use_profile(profile)

    from aiida_e3relax.calculations.pre_relaxer import (
        NETWORK,
        PreRelaxer,
        default_pre_relaxer,
        set_default_pre_relaxer,
    )
    from aiida_e3relax.workflows.vasp.arguments import NO_CODE, list_codes, load_code

    plugin = 'e3relax.predict'
    try:
        codes = list_codes(plugin) if code is None else [load_code(code, plugin, 'CODE')]
        if who is not None:
            set_default_pre_relaxer(codes[0], PreRelaxer.parse(who))
        lines = [f'{found.full_label}: {default_pre_relaxer(found) or NETWORK}' for found in codes]
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    if not codes:
        raise click.ClickException(f'no code for {plugin} is in this profile; {NO_CODE.format(plugin=plugin)}')
    click.echo('\n'.join(lines))
