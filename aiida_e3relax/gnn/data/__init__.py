"""From files of many kinds to a training file: pairs are read, repaired, searched for duplicates, split, described."""
