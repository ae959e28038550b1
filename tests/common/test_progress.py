"""Lines that say how far something is."""

from aiida_e3relax.common.progress import progress


def test_nothing_is_said_of_no_items(capsys):
    assert list(progress([], 'fingerprints')) == []
    assert capsys.readouterr().err == ''
    assert list(progress('ab', 'letters')) == ['a', 'b']
    assert 'letters  2/2' in capsys.readouterr().err
