"""Write the crystals of a small campaign: metals of effective medium theory in cells of other metals, off their sites.

    python workflows/validation_campaign.py crystals/

`make campaign` takes them through `aiida-e3relax campaign create`, `run` and `report`, with the stand-in in the place
of VASP. For a campaign of your own give `create` your files in their place.
"""

from __future__ import annotations

from pathlib import Path

import click

from aiida_e3relax.workflows.demo import campaign_crystals


@click.command()
@click.argument('folder', type=click.Path(file_okay=False, path_type=Path))
def main(folder: Path) -> None:
    """Write the crystals into FOLDER, a POSCAR each."""
    folder.mkdir(parents=True, exist_ok=True)
    for label, atoms in campaign_crystals().items():
        atoms.write(folder / f'{label}.vasp')
    click.echo(f'{len(campaign_crystals())} crystals in {folder}')


if __name__ == '__main__':
    main()
