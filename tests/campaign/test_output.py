"""Files of a report or an export: all of them or none."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from aiida_e3relax.campaign.output import default_folder, written_together


def write(folder, text: str) -> None:
    with written_together(folder, 'report') as partial:
        (partial / 'page.html').write_text(text)
        (partial / 'figures').mkdir()
        (partial / 'figures' / 'steps.png').write_text(text)


def write_half(folder) -> None:
    with written_together(folder, 'report') as partial:
        (partial / 'page.html').write_text('half')
        Path('/dev/full').write_text('half')


def test_files_are_replaced_together_and_others_stay(tmp_path):
    folder = tmp_path / 'deep' / 'report'
    write(folder, 'first')
    (folder / 'mine.txt').write_text('mine')
    write(folder, 'second')
    assert {str(path.relative_to(folder)): path.read_text() for path in folder.rglob('*') if path.is_file()} == {
        'page.html': 'second',
        'figures/steps.png': 'second',
        'mine.txt': 'mine',
    }


def test_an_error_leaves_what_was_there(tmp_path):
    write(tmp_path / 'report', 'first')
    for folder in (tmp_path / 'report', tmp_path / 'new'):
        with pytest.raises(OSError, match='No space left'):
            write_half(folder)
    assert (tmp_path / 'report' / 'page.html').read_text() == 'first'
    assert sorted(path.name for path in (tmp_path / 'report').iterdir()) == ['figures', 'page.html']
    assert not (tmp_path / 'new').exists()


def test_what_a_killed_process_left_goes_away(tmp_path):
    (tmp_path / 'report.partial' / 'figures').mkdir(parents=True)
    (tmp_path / 'report.partial' / 'figures' / 'old.png').write_text('old')
    write(tmp_path, 'text')
    assert sorted(path.name for path in tmp_path.rglob('*')) == ['figures', 'page.html', 'steps.png']


def test_something_else_in_the_place(tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(FileExistsError):
        write(tmp_path / 'file', 'text')
    (tmp_path / 'page.html').mkdir()
    with pytest.raises(IsADirectoryError, match='expected a file, found a folder'):
        write(tmp_path, 'text')
    assert not list((tmp_path / 'figures').iterdir())


@pytest.mark.skipif(os.geteuid() == 0, reason='root may write anywhere')
def test_a_folder_that_cannot_be_written(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(PermissionError):
        write(tmp_path, 'text')


def test_no_name_of_a_campaign_leads_out_of_the_working_directory():
    assert str(default_folder('mine', '-export')) == 'mine-export'
    for name in ('../x', '/etc', '..', ''):
        with pytest.raises(ValueError, match='--folder'):
            default_folder(name)
