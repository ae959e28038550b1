"""Export a campaign as files to publish: an AiiDA archive, a table, and what to cite."""

from __future__ import annotations

import importlib.metadata
import importlib.resources
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from aiida import orm
from aiida.tools.archive import create_archive
from aiida.tools.archive.abstract import get_format
from aiida_vasp.data.potcar import PotcarFileData

from aiida_e3relax.campaign.arms import find_pre_relaxer
from aiida_e3relax.campaign.group import load_campaign
from aiida_e3relax.campaign.output import written_together
from aiida_e3relax.campaign.results.table import campaign_frame
from aiida_e3relax.campaign.rounds.history import Generation, read_generations, read_history
from aiida_e3relax.campaign.settings import CampaignSettings
from aiida_e3relax.campaign.submission.processes import read_processes

ARCHIVE = 'campaign.aiida'
TABLE = 'campaign.parquet'
README = 'README.md'
POTENTIAL_FILE = 'POTCAR'
README_TEMPLATE = 'archive.md'


def export_campaign(name: str, folder: Path) -> list[Path]:
    """Write the campaign `name` into `folder` and return the files: `ARCHIVE`, `TABLE` and `README`.

    The folder is made where it does not exist; files of an earlier export in it are replaced, all at the end or none.
    The archive has the group, its structures and settings, all runs of the network and all chains, with everything
    below and before them. Of potentials it has the names and hashes, and not what VASP's licence keeps from being
    passed on. Whom and which machines it names tells `personal.find_personal`.

    Raises
    ------
    ValueError
        When there is no campaign of that name, when processes of it run, since AiiDA exports what has ended only, and
        when a node holds the content of a POTCAR after all; nothing is exported then.
    OSError
        When the files cannot be written.
    """
    group = load_campaign(name)
    settings = group.settings
    processes = read_processes(settings, group.settings_node)
    if processes.running:
        raise ValueError(
            f'campaign `{name}`: {len(processes.running)} of its processes run; export it when they have ended, '
            'or stop submitting with `aiida-e3relax campaign pause` and wait'
        )
    nodes = [orm.load_node(process.pk) for process in processes.everything]
    with written_together(folder, 'export') as partial:
        archive = create_archive([group, *nodes], partial / ARCHIVE)
        if found := list(_find_potentials(archive)):
            raise ValueError(
                f'campaign `{name}`: nodes hold the content of potentials, which may not be passed on: '
                f'{", ".join(found)}; nothing was exported. Take {POTENTIAL_FILE} out of what their jobs retrieve, and '
                'run these again'
            )
        campaign_frame(name).to_parquet(partial / TABLE)
        generations = read_generations(settings.chain.get('model'), read_history(processes.rounds))
        readme = _write_readme(name, settings, len(nodes), generations)
        (partial / README).write_text(readme, encoding='utf-8')
    return [folder / file for file in (ARCHIVE, TABLE, README)]


def _find_potentials(archive: Path) -> Iterator[str]:
    """Yield the UUIDs of nodes of an archive that hold a POTCAR."""
    with get_format().open(archive, 'r') as reader:
        query = reader.querybuilder().append(orm.Node, project=['uuid', 'node_type', 'repository_metadata'])
        for uuid, node_type, content in query.iterall(batch_size=1000):
            if node_type == PotcarFileData.class_node_type or _has_file(content, POTENTIAL_FILE):
                yield uuid


def _has_file(content: dict[str, Any], name: str) -> bool:
    """Return whether a folder of AiiDA's repository, as it describes it, has a file whose name begins like that."""
    return any(key.upper().startswith(name) or _has_file(entry, name) for key, entry in content.get('o', {}).items())


def _write_readme(name: str, settings: CampaignSettings, n_processes: int, generations: Sequence[Generation]) -> str:
    """Return the text that goes with an export."""
    template = (importlib.resources.files(__package__) / README_TEMPLATE).read_text(encoding='utf-8')
    now = {package: importlib.metadata.version(package) for package in settings.versions}
    versions = '\n'.join(f'| {package} | {then} | {now[package]} |' for package, then in settings.versions.items())
    models = '; '.join(f'generation {each.number} `{each.model}`, {each.content_hash}' for each in generations)
    return template.format(
        name=name,
        created=settings.created,
        n_structures=len(settings.structures),
        n_processes=n_processes,
        model=f'{models} (model cards, with licences, are in the nodes)' if models else 'none',
        weights=f'`{weights}`'
        if (weights := settings.chain.get('potential_weights'))
        else 'those of its package, if any',
        pre_relaxer=find_pre_relaxer(settings),
        protocol=settings.chain['protocol'] or 'the default one',
        versions=versions,
    )
