"""From files of many kinds to a training file: read, put right, looked through for repeats, split, described."""
