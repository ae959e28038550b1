"""The report of a campaign: a page that works from a file, without a network, and what it shows as files.

`gather` reads the `contents` of a report from the provenance graph, and `files` writes them. The `page` has
`key_figures`, interactive `plots` (drawn with plotly in `plotly_plots`), a table with `columns`, and `failures`; its
HTML, scripts and styles are in `template/`. `print_figures` draws figures for papers with matplotlib.
"""
